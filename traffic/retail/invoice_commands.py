"""The commands that book an invoice of Online Retail, each with its idempotency key.

Belongs here: pure building of commands. Does not belong here: running them (`sales.py`, `credits.py`),
finding a return's order (`matching.py`).

Keys and ids are computed from merchant and invoice number only, never from the file. So the same invoice in another
file gives the same commands, and a changed invoice is detected: its key comes with another body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from contracts.events.adjustment import AdjustmentKind
from contracts.events.order import LineKind
from contracts.events.stock import StockMovementKind
from contracts.money import line_amount
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.book_adjustment import BookAdjustment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.execute import Command
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.place_order import OrderLineInput, PlaceOrder, PriceOverride
from traffic.content_ids import CATALOG_TIME, content_id
from traffic.retail.invoices import Invoice, InvoiceRow
from traffic.retail.rules import Treatment, product_code

SOURCE = "import:online-retail"
"""Source of every order, price override and adjustment of an import."""
CURRENCY = "GBP"
LOCATION = "main"
PRICE_REASON = "invoice price"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One command with its key; `ordinal` is the row it books, or None when it books an order."""

    key: str
    command: Command[Any]
    ordinal: int | None = None


def key_of(number: str, step: str) -> str:
    """Return the idempotency key of a step of an invoice; keys are scoped by merchant."""
    return f"online-retail/{number}/{step}"


def product_id(merchant_id: str, stock_code: str) -> str:
    """Return the id of the product that all spellings of a stock code share."""
    return str(content_id(CATALOG_TIME, SOURCE, merchant_id, "product", product_code(stock_code)))


def variant_id(merchant_id: str, stock_code: str) -> str:
    """Return the id of the variant for one spelling of a stock code."""
    return str(content_id(CATALOG_TIME, SOURCE, merchant_id, "variant", stock_code))


def invoice_id(invoice: Invoice, *parts: str) -> str:
    """Return the id of an aggregate that the invoice creates; `parts` name it."""
    return str(content_id(invoice.invoiced_at, SOURCE, *invoice.key, *parts))


def steps_of(invoice: Invoice) -> list[Step]:
    """Return all steps of the invoice except returns: the order's steps, then one step for each other row."""
    return [*_order_steps(invoice), *row_steps(invoice)]


def row_steps(invoice: Invoice) -> list[Step]:
    """Return the steps of rows that belong to no order: adjustments and stock movements."""
    steps = []
    for item in invoice.rows:
        command = _row_command(invoice, item)
        if command is not None:
            key = key_of(invoice.key.number, f"row/{item.ordinal}")
            steps.append(Step(key=key, command=command, ordinal=item.ordinal))
    return steps


def adjustment(
    invoice: Invoice,
    *,
    kind: AdjustmentKind,
    amount_micro: int,
    quantity: int,
    sku: str | None,
    reason: str,
    tax_category: str | None = None,
) -> BookAdjustment:
    """Return the adjustment that books `amount_micro` (signed, exact) under the invoice's number."""
    return BookAdjustment(
        merchant_id=invoice.key.merchant_id,
        kind=kind,
        currency=CURRENCY,
        amount_micro=amount_micro,
        quantity=quantity,
        sku=sku,
        customer_id=invoice.customer_id,
        external_reference=invoice.key.number,
        reason=reason,
        source=SOURCE,
        tax_category=tax_category,
    )


def charge_reason(item: InvoiceRow) -> str:
    """Return the reason of a shipping line; its stock code comes first, so that a credit note can find the line."""
    return f"{item.row.stock_code} x {item.row.quantity}"


def _order_steps(invoice: Invoice) -> list[Step]:
    rows = invoice.treated(Treatment.ORDER_LINE)
    if not rows:
        return []
    merchant_id, number = invoice.key
    order_id, payment_id = invoice_id(invoice, "order"), invoice_id(invoice, "payment")
    commands: list[tuple[str, Command[Any]]] = [("place", _place_order(invoice, rows, order_id))]
    if _total_minor(rows) > 0:
        authorize = AuthorizePayment(merchant_id=merchant_id, order_id=order_id, payment_id=payment_id)
        commands.append(("authorize", authorize))
        commands.append(("capture", CapturePayment(merchant_id=merchant_id, payment_id=payment_id)))
    commands.append(("fulfill", FulfillOrder(merchant_id=merchant_id, order_id=order_id, location_id=LOCATION)))
    return [Step(key=key_of(number, name), command=command) for name, command in commands]


def _place_order(invoice: Invoice, rows: Sequence[InvoiceRow], order_id: str) -> PlaceOrder:
    return PlaceOrder(
        merchant_id=invoice.key.merchant_id,
        order_number=invoice.key.number,
        customer_id=invoice.customer_id,
        location_id=LOCATION,
        lines=[
            OrderLineInput(
                sku=item.row.stock_code,
                quantity=item.row.quantity,
                price_override=PriceOverride(
                    unit_price_micro=item.row.unit_price_micro, source=SOURCE, reason=PRICE_REASON
                ),
            )
            for item in rows
            if item.rule.line_kind is not LineKind.SHIPPING
        ],
        # Carriage is one charge, even if the row counts several parcels.
        shipping=[
            PriceOverride(unit_price_micro=item.row.amount_micro, source=SOURCE, reason=charge_reason(item))
            for item in rows
            if item.rule.line_kind is LineKind.SHIPPING
        ],
        source=SOURCE,
        order_id=order_id,
    )


def _total_minor(rows: Sequence[InvoiceRow]) -> int:
    """Return what the customer owes in minor units. Prices contain the tax, so it is the sum of the rounded lines."""
    return sum(line_amount(item.row.quantity, item.row.unit_price_micro, CURRENCY)[0] for item in rows)


def _row_command(invoice: Invoice, item: InvoiceRow) -> Command[Any] | None:
    row, kind = item.row, item.rule.adjustment_kind
    if item.rule.treatment is Treatment.ADJUSTMENT and kind is not None:
        return adjustment(
            invoice,
            kind=kind,
            amount_micro=row.amount_micro,
            quantity=row.quantity,
            sku=row.stock_code,
            reason=row.description or row.stock_code,
        )
    movements = {
        Treatment.WRITE_OFF: (StockMovementKind.WRITTEN_OFF, row.quantity),
        Treatment.STOCK_RETURN: (StockMovementKind.ADJUSTED, -row.quantity),
    }
    if item.rule.treatment not in movements:
        return None
    movement, quantity = movements[item.rule.treatment]
    return AdjustStock(
        merchant_id=invoice.key.merchant_id,
        location_id=LOCATION,
        variant_id=variant_id(invoice.key.merchant_id, row.stock_code),
        quantity=quantity,
        kind=movement,
        reason=f"{invoice.key.number}: {row.description or 'no reason given'}",
    )
