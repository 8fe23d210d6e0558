"""Parsing rows of Online Retail files: the fields of a record, and the reasons that make it unreadable.

Belongs here: converting a record of text to a typed row, or to a rejection with its reason. Does not belong here:
opening files (`files.py`), the meaning of a row (`rules.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

import msgspec

from contracts.errors import InputError
from contracts.limits import SIGNED_QUANTITY
from contracts.money import parse_micro
from traffic.retail.dates import DateOrder, readings_of
from traffic.retail.files import COLUMNS, Record, Source, read_records

_SPACES = re.compile(r"[ \t]*[\r\n\v\f\t]\s*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

INVOICE_CHARACTERS_MAX = 100
STOCK_CODE_CHARACTERS_MAX = 100
DESCRIPTION_CHARACTERS_MAX = 500
CUSTOMER_CHARACTERS_MAX = 100
COUNTRY_CHARACTERS_MAX = 100
"""Less than the limits of commands, because keys and reasons contain these texts; a longer text is a damaged row."""
QUANTITY_MAX = SIGNED_QUANTITY.most
AMOUNT_MICRO_MAX = 10**15
"""One thousand million pounds per row; a larger number is damaged, and sums of such numbers would exceed 64 bits."""


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One readable record; the amount is exact, in micro-units, and signed."""

    file: int
    """The index of the file in the run."""
    line: int
    """The line where the record begins; the header is line 1."""
    invoice: str
    stock_code: str
    description: str
    quantity: int
    unit_price_micro: int
    invoiced_at: datetime
    customer_id: str | None
    merchant_id: str
    country: str

    @property
    def amount_micro(self) -> int:
        """Return quantity x unit price, in micro-units."""
        return self.quantity * self.unit_price_micro


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """One record that cannot be imported, and why; `amount_micro` is 0 when it has no readable amount."""

    file: int
    line: int
    reason: str
    amount_micro: int
    fields: tuple[str, ...]
    detail: str = ""
    """The message of the refusal."""


class UnreadableError(ValueError):
    """A field cannot be read; the message is the reason's code."""


def read_rows(source: Source, file: int) -> Iterator[Row | Rejection]:
    """Yield the file's rows in order; InputError when the file cannot be read completely or has changed."""
    for record in read_records(source):
        if record.fields:
            yield parse_record(file, record, source.date_order)


def parse_record(file: int, record: Record, date_order: DateOrder) -> Row | Rejection:
    """Return the record as a row, or its rejection with the reason's code."""
    try:
        return _row(file, record, date_order)
    except UnreadableError as error:
        return Rejection(
            file=file,
            line=record.line,
            reason=str(error),
            amount_micro=_readable_amount(record),
            fields=tuple(record.fields),
        )


def fields_of(row: Row) -> tuple[str, ...]:
    """Return the row in the columns of its file, for a list of rejects."""
    price = f"{Decimal(row.unit_price_micro).scaleb(-6).normalize():f}"
    date = row.invoiced_at.strftime("%Y-%m-%d %H:%M:%S")
    quantity = str(row.quantity)
    return (row.invoice, row.stock_code, row.description, quantity, date, price, row.customer_id or "", row.country)


def merchant_of(country: str) -> str:
    """Return a country's merchant id: ``United Kingdom`` becomes ``united-kingdom``; empty if nothing is left."""
    plain = unicodedata.normalize("NFKD", country).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def _row(file: int, record: Record, date_order: DateOrder) -> Row:
    if record.is_misquoted:
        raise UnreadableError("quote_in_the_wrong_place")
    if len(record.fields) != len(COLUMNS):
        raise UnreadableError("wrong_column_count")
    invoice, stock_code, description, quantity, date, price, customer, country = record.fields
    row = Row(
        file=file,
        line=record.line,
        invoice=_short(_required(invoice, "missing_invoice_number"), "invoice_number", INVOICE_CHARACTERS_MAX),
        stock_code=_short(_required(stock_code, "missing_stock_code"), "stock_code", STOCK_CODE_CHARACTERS_MAX),
        description=_short(_text(description), "description", DESCRIPTION_CHARACTERS_MAX),
        quantity=_quantity(quantity),
        unit_price_micro=_price_micro(price),
        invoiced_at=_date(date, date_order),
        customer_id=_customer(customer),
        merchant_id=_short(_required(_merchant_of(country), "missing_country"), "country", COUNTRY_CHARACTERS_MAX),
        country=_short(_text(country), "country", COUNTRY_CHARACTERS_MAX),
    )
    if not (row.invoice.isprintable() and row.stock_code.isprintable()):
        raise UnreadableError("unprintable_character")
    if abs(row.amount_micro) > AMOUNT_MICRO_MAX:
        raise UnreadableError("amount_out_of_range")
    return row


@lru_cache(maxsize=65_536)
def _text(text: str) -> str:
    """Return a text as one line; UnreadableError when it has a control character."""
    stripped = text.strip()
    if stripped.isprintable():
        return stripped
    one_line = _SPACES.sub(" ", stripped)
    if _CONTROLS.search(one_line):
        raise UnreadableError("unprintable_character")
    return one_line


def _short(text: str, field: str, characters_max: int) -> str:
    if len(text) > characters_max:
        raise UnreadableError(f"{field}_has_more_than_{characters_max}_characters")
    return text


def _required(text: str, reason: str) -> str:
    stripped = text.strip()
    if not stripped:
        raise UnreadableError(reason)
    return stripped


@lru_cache(maxsize=65_536)
def _quantity(text: str) -> int:
    stripped = text.strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", stripped):
        raise UnreadableError("quantity_not_a_whole_number")
    quantity = int(stripped)
    if abs(quantity) > QUANTITY_MAX:
        raise UnreadableError("quantity_out_of_range")
    return quantity


@lru_cache(maxsize=65_536)
def _price_micro(text: str) -> int:
    stripped = text.strip()
    if not re.fullmatch(r"[+-]?([0-9]{1,15}(\.[0-9]*)?|\.[0-9]+)", stripped):
        raise UnreadableError("price_not_a_number")
    try:
        return parse_micro(stripped)
    except InputError:
        raise UnreadableError("price_has_more_than_six_decimals") from None


def _date(text: str, order: DateOrder) -> datetime:
    readings = readings_of(text)
    moment = readings.get(order)
    if moment is None and len(readings) > 1 and len(set(readings.values())) == 1:
        # 05/05/2011 is the same day in both orders.
        (moment,) = set(readings.values())
    if moment is None:
        raise UnreadableError("date_not_readable")
    return moment


@lru_cache(maxsize=65_536)
def _customer(text: str) -> str | None:
    """Return ``17850`` for ``17850.0`` (a number that a spreadsheet wrote), None for a guest."""
    customer_id = text.strip().removesuffix(".0")
    if not customer_id.isprintable():
        raise UnreadableError("unprintable_character")
    return _short(customer_id, "customer_id", CUSTOMER_CHARACTERS_MAX) or None


_merchant_of = lru_cache(maxsize=4_096)(merchant_of)


def _readable_amount(record: Record) -> int:
    """Return the exact amount of a rejected record in micro-units if quantity and price are readable, else 0."""
    if len(record.fields) != len(COLUMNS):
        return 0
    try:
        amount_micro = _quantity(record.fields[3]) * _price_micro(record.fields[5])
    except UnreadableError:
        return 0
    return amount_micro if abs(amount_micro) <= AMOUNT_MICRO_MAX else 0
