"""Grouping rows of Online Retail into invoices; the rows of an invoice may be anywhere in the file.

Belongs here: one pass over the files that counts (the survey), and a second pass that yields complete invoices and
keeps only incomplete ones in memory. Does not belong here: rules about single rows (`rules.py`), writing.

An invoice is identified by its merchant and number, not by its file. If a later file of the run has the same invoice,
it is a copy if its rows are equal; otherwise it is rejected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

from contracts.events.order import LineKind
from traffic.progress import OnProgress
from traffic.retail.files import Source
from traffic.retail.rows import Rejection, Row, fields_of, read_rows
from traffic.retail.rules import Rule, Treatment, classify, line_kind, product_code

OnRejection = Callable[[Rejection], None]
PROGRESS_ROWS = 20_000
STOCKED = frozenset({Treatment.ORDER_LINE, Treatment.WRITE_OFF})


class InvoiceKey(NamedTuple):
    """The key that identifies an invoice in every file."""

    merchant_id: str
    number: str


class InvoiceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row with the decision about it; `ordinal` is its place in the invoice, from 1."""

    ordinal: int
    row: Row
    rule: Rule


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """All acceptable rows of one invoice, in the order of the file."""

    key: InvoiceKey
    file: int
    invoiced_at: datetime
    """The earliest time of its rows; a few invoices span two minutes."""
    customer_id: str | None
    rows: tuple[InvoiceRow, ...]
    digest: str
    """Hash of the rows' content; the same rows give the same digest in every file."""

    @property
    def amount_micro(self) -> int:
        """Return the exact sum of the rows, in micro-units."""
        return sum(item.row.amount_micro for item in self.rows)

    def treated(self, treatment: Treatment) -> list[InvoiceRow]:
        """Return the rows of one treatment, in their order."""
        return [item for item in self.rows if item.rule.treatment is treatment]


@dataclass(kw_only=True)
class VariantSurvey:
    """Data of the files about one stock code of one merchant."""

    kind: LineKind
    title: str = ""
    is_title_of_sale: bool = False
    unit_price_micro: int | None = None
    """The first price above 0."""

    def see(self, row: Row) -> None:
        """Take title and price from the row; rows at price 0 have remarks of stock clerks instead of titles."""
        is_sale = row.unit_price_micro > 0 and row.quantity > 0
        if row.description and (not self.title or (is_sale and not self.is_title_of_sale)):
            self.title, self.is_title_of_sale = row.description, is_sale
        if self.unit_price_micro is None and is_sale:
            self.unit_price_micro = row.unit_price_micro


@dataclass(kw_only=True)
class MerchantSurvey:
    """Data of the files about one merchant."""

    name: str
    first_at: datetime
    rows: int = 0
    variants: dict[str, VariantSurvey] = field(default_factory=dict)
    """By stock code with its spelling; shipping codes and adjustments are not products."""


@dataclass(kw_only=True)
class Survey:
    """The result of one pass over the files."""

    rows_read: int = 0
    amount_read_micro: int = 0
    merchants: dict[str, MerchantSurvey] = field(default_factory=dict)
    sizes: dict[tuple[int, InvoiceKey], int] = field(default_factory=dict)
    """The number of rows of every invoice, by (file, invoice key)."""


def survey_files(sources: Sequence[Source], on_rejection: OnRejection, on_progress: OnProgress) -> Survey:
    """Read every file once; rejected rows go to `on_rejection`. InputError when a file cannot be read to its end."""
    survey = Survey()
    for item in _readings(sources):
        survey.rows_read += 1
        survey.amount_read_micro += item.amount_micro
        if survey.rows_read % PROGRESS_ROWS == 0:
            on_progress("reading rows", survey.rows_read, 0)
        if isinstance(item, Rejection):
            on_rejection(item)
            continue
        rule = classify(item.invoice, item.stock_code, item.quantity, item.unit_price_micro)
        if rule.treatment is Treatment.REJECTED:
            on_rejection(rejected(item, rule.reason))
        else:
            _count(survey, item, rule)
    return survey


def read_invoices(
    sources: Sequence[Source], sizes: Mapping[tuple[int, InvoiceKey], int], on_rejection: OnRejection
) -> Iterator[Invoice]:
    """Yield every invoice after its last row was read; `on_rejection` gets rows of a second customer.

    Rows that the survey rejected are skipped. Memory holds only incomplete invoices.
    """
    pending: dict[tuple[int, InvoiceKey], list[InvoiceRow]] = {}
    for row in _readings(sources):
        if isinstance(row, Rejection):
            continue
        rule = classify(row.invoice, row.stock_code, row.quantity, row.unit_price_micro)
        if rule.treatment is Treatment.REJECTED:
            continue
        place = (row.file, InvoiceKey(row.merchant_id, row.invoice))
        rows = pending.setdefault(place, [])
        rows.append(InvoiceRow(ordinal=len(rows) + 1, row=row, rule=rule))
        if len(rows) == sizes[place]:
            yield make_invoice(pending.pop(place), on_rejection)


def make_invoice(rows: Sequence[InvoiceRow], on_rejection: OnRejection) -> Invoice:
    """Return the invoice of the rows. Its customer is the first one named; rows of other customers are rejected."""
    first = rows[0].row
    customer_id = next((item.row.customer_id for item in rows if item.row.customer_id), None)
    kept = [item for item in rows if item.row.customer_id in (None, customer_id)]
    for item in rows:
        if item.row.customer_id not in (None, customer_id):
            on_rejection(rejected(item.row, "second_customer_on_invoice"))
    return Invoice(
        key=InvoiceKey(first.merchant_id, first.invoice),
        file=first.file,
        invoiced_at=min(item.row.invoiced_at for item in kept),
        customer_id=customer_id,
        rows=tuple(kept),
        digest=_digest(item.row for item in kept),
    )


def needed_units(invoices: Iterable[Invoice]) -> dict[tuple[str, str], int]:
    """Return the units of goods that the invoices sell or write off, by (merchant, stock code)."""
    needed: dict[tuple[str, str], int] = {}
    for invoice in invoices:
        for item in invoice.rows:
            if item.rule.treatment in STOCKED and item.rule.line_kind is LineKind.GOODS:
                place = (invoice.key.merchant_id, item.row.stock_code)
                needed[place] = needed.get(place, 0) + abs(item.row.quantity)
    return needed


def products_of(merchant: MerchantSurvey) -> dict[str, dict[str, VariantSurvey]]:
    """Return the merchant's variants by product code, then by spelling, both in order."""
    products: dict[str, dict[str, VariantSurvey]] = {}
    for stock_code in sorted(merchant.variants):
        products.setdefault(product_code(stock_code), {})[stock_code] = merchant.variants[stock_code]
    return products


def rejected(row: Row, reason: str, detail: str = "") -> Rejection:
    """Return the rejection of a readable row; `detail`: the message of the refusal."""
    return Rejection(
        file=row.file,
        line=row.line,
        reason=reason,
        amount_micro=row.amount_micro,
        fields=fields_of(row),
        detail=detail,
    )


def _readings(sources: Sequence[Source]) -> Iterator[Row | Rejection]:
    for file, source in enumerate(sources):
        yield from read_rows(source, file)


def _count(survey: Survey, row: Row, rule: Rule) -> None:
    merchant = survey.merchants.get(row.merchant_id)
    if merchant is None:
        merchant = survey.merchants[row.merchant_id] = MerchantSurvey(name=row.country, first_at=row.invoiced_at)
    merchant.rows += 1
    merchant.first_at = min(merchant.first_at, row.invoiced_at)
    place = (row.file, InvoiceKey(row.merchant_id, row.invoice))
    survey.sizes[place] = survey.sizes.get(place, 0) + 1
    if rule.treatment is Treatment.ADJUSTMENT or rule.line_kind is LineKind.SHIPPING:
        return
    variant = merchant.variants.get(row.stock_code)
    if variant is None:
        variant = merchant.variants[row.stock_code] = VariantSurvey(kind=line_kind(row.stock_code))
    variant.see(row)


def _digest(rows: Iterable[Row]) -> str:
    content = "\n".join(
        f"{row.stock_code}\x1f{row.quantity}\x1f{row.unit_price_micro}\x1f{row.invoiced_at.isoformat()}" for row in rows
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]
