"""Queries for the data of Online Retail that a pod already holds; an import runs them before it books anything.

Belongs here: the SQL queries of the import, and their rows as values. Does not belong here: writing (commands only).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from contracts.events.order import LineKind
from contracts.money import micro_per_minor
from traffic.books import Connection
from traffic.retail.invoice_commands import CURRENCY, SOURCE
from traffic.retail.invoices import InvoiceKey
from traffic.retail.matching import SoldKey, SoldLine
from traffic.retail.rules import product_code

_SOLD_LINES = """
select
    orders.merchant_id,
    orders.customer_id,
    order_lines.kind,
    order_lines.sku,
    order_lines.price_reason,
    orders.order_number,
    order_lines.line_number,
    order_lines.order_line_id::text,
    orders.order_id::text,
    payments.payment_id::text,
    order_lines.quantity,
    order_lines.quantity - order_lines.cancelled_quantity - coalesce(given_back.quantity, 0),
    order_lines.unit_price_micro,
    orders.placed_at
from oltp.orders
inner join oltp.order_lines using (order_id)
inner join oltp.payments on payments.order_id = orders.order_id and payments.status = 'captured'
left join lateral (
    select sum(refund_lines.quantity)::bigint as quantity
    from oltp.refund_lines
    inner join oltp.refunds using (refund_id)
    where refund_lines.order_line_id = order_lines.order_line_id and refunds.status <> 'failed'
) as given_back on true
where
    orders.source = %(source)s
    and orders.merchant_id = any(%(merchants)s)
    and orders.customer_id = any(%(customers)s)
    and (order_lines.kind = 'shipping' or upper(order_lines.sku) = any(%(codes)s))
"""
"""Lines that returns may belong to, with what can still be refunded; the caller filters them by the whole key."""

_REFUNDED = """
select
    refunds.merchant_id,
    refunds.external_reference,
    refunds.refund_id::text,
    refunds.status,
    order_lines.kind,
    order_lines.sku,
    order_lines.price_reason,
    refund_lines.quantity,
    refund_lines.quantity * order_lines.unit_price_micro,
    refund_lines.amount_minor
from oltp.refunds
inner join oltp.refund_lines using (refund_id)
inner join oltp.order_lines using (order_line_id)
where refunds.merchant_id = any(%(merchants)s) and refunds.external_reference = any(%(numbers)s)
order by refunds.refund_id, refund_lines.refund_line_id
"""

_ADJUSTED = """
select merchant_id, external_reference, kind, sku, quantity, amount_minor, rounding_micro
from oltp.adjustments
where
    source = %(source)s and merchant_id = any(%(merchants)s) and external_reference = any(%(numbers)s)
"""

_RATES = """
select merchants.merchant_id, merchant_tax_rates.tax_category, sum(merchant_tax_rates.rate_ppm)::bigint as rate_ppm
from oltp.merchants
left join oltp.merchant_tax_rates
    on merchant_tax_rates.merchant_id = merchants.merchant_id
    and merchant_tax_rates.jurisdiction = merchants.jurisdiction
where merchants.merchant_id = any(%(merchants)s)
group by merchants.merchant_id, merchant_tax_rates.tax_category
"""


class Given(msgspec.Struct, kw_only=True):
    """The booked parts of one credit note, after an interrupted run."""

    units: dict[str, int] = msgspec.field(default_factory=dict)
    """Units of goods and services by product code that are refunded or booked as unreferenced returns."""
    charges_micro: dict[str, int] = msgspec.field(default_factory=dict)
    """Refunded carriage in micro-units by code, at the prices of the orders."""
    amount_micro: int = 0
    """The signed sum of completed refunds and adjustments, in micro-units."""
    refund_ids: list[str] = msgspec.field(default_factory=list)
    requested: list[str] = msgspec.field(default_factory=list)
    """The ids of refunds that were requested and not completed."""


def sold_lines(connection: Connection, keys: Iterable[SoldKey]) -> list[SoldLine]:
    """Return the lines with one of the keys from imported, paid orders."""
    wanted = set(keys)
    parameters = {
        "source": SOURCE,
        "merchants": sorted({key.merchant_id for key in wanted}),
        "customers": sorted({key.customer_id for key in wanted}),
        "codes": sorted({key.product_code for key in wanted}),
    }
    lines = (_sold_line(row) for row in connection.execute(_SOLD_LINES, parameters))
    return [line for line in lines if line.key in wanted]


def given_back(connection: Connection, notes: Sequence[InvoiceKey]) -> dict[InvoiceKey, Given]:
    """Return the booked parts of credit notes; notes without booked parts are left out."""
    parameters = {
        "source": SOURCE,
        "merchants": sorted({note.merchant_id for note in notes}),
        "numbers": sorted({note.number for note in notes}),
    }
    given: dict[InvoiceKey, Given] = {}
    refunds: set[str] = set()
    for row in connection.execute(_REFUNDED, parameters):
        note = given.setdefault(InvoiceKey(row[0], row[1]), Given())
        _add_refund_line(note, row[3:], is_first=row[2] not in refunds, refund_id=row[2])
        refunds.add(row[2])
    for merchant_id, number, kind, sku, quantity, amount_minor, rounding_micro in connection.execute(
        _ADJUSTED, parameters
    ):
        note = given.setdefault(InvoiceKey(merchant_id, number), Given())
        note.amount_micro += amount_minor * micro_per_minor(CURRENCY) + rounding_micro
        if kind == "unreferenced_return" and sku is not None:
            _add(note.units, product_code(sku), abs(quantity))
    return given


def tax_rates(connection: Connection, merchants: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return for each registered merchant its tax rates in parts per million, by tax category."""
    rates: dict[str, dict[str, int]] = {}
    for merchant_id, tax_category, rate_ppm in connection.execute(_RATES, {"merchants": list(merchants)}):
        by_category = rates.setdefault(merchant_id, {})
        if tax_category is not None:
            by_category[tax_category] = rate_ppm
    return rates


def _sold_line(row: tuple[Any, ...]) -> SoldLine:
    merchant_id, customer_id, kind, sku, price_reason, number, line_number, *rest = row
    line_id, order_id, payment_id, quantity, left, price, at = rest
    return SoldLine(
        key=SoldKey(merchant_id, customer_id, _code(kind, sku, price_reason)),
        kind=LineKind(kind),
        order_number=number,
        line_number=line_number,
        order_line_id=line_id,
        order_id=order_id,
        payment_id=payment_id,
        quantity=quantity,
        left=left,
        unit_price_micro=price,
        placed_at=at,
    )


def _code(kind: str, sku: str, price_reason: str | None) -> str:
    """Return the product code of a line; for carriage the code is the first word of the price reason."""
    return product_code(sku if kind != LineKind.SHIPPING else (price_reason or "").split(" ")[0])


def _add_refund_line(note: Given, row: tuple[Any, ...], *, is_first: bool, refund_id: str) -> None:
    status, kind, sku, price_reason, quantity, price_micro, amount_minor = row
    if is_first:
        note.refund_ids.append(refund_id)
        if status == "requested":
            note.requested.append(refund_id)
    if status == "failed":
        return
    code = _code(kind, sku, price_reason)
    if kind == LineKind.SHIPPING:
        _add(note.charges_micro, code, price_micro)
    else:
        _add(note.units, code, quantity)
    if status == "completed":
        note.amount_micro -= amount_minor * micro_per_minor(CURRENCY)


def _add(units: dict[str, int], code: str, quantity: int) -> None:
    units[code] = units.get(code, 0) + quantity
