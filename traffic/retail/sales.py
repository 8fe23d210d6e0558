"""Booking an invoice that is no credit note: its order, and the rows that stand for themselves.

Belongs here: running the steps of one invoice against one pod, again and again with the same effect. Does not belong
here: what the steps are (`steps.py`), which invoices run where (`importing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from contracts.errors import ConflictError, IdempotencyConflictError, InputError, InsufficientStockError
from contracts.events.adjustment import AdjustmentState
from contracts.events.order import LineKind, OrderState
from contracts.money import micro_per_minor
from oltp.commands.execute import CommandPod, body_hash, execute
from oltp.commands.receive_stock import ReceiveStock, StockInput
from traffic.retail.invoices import Invoice, InvoiceRow
from traffic.retail.report import Outcome, combined, refused
from traffic.retail.rules import Treatment
from traffic.retail.steps import LOCATION, Step, key_of, steps_of, variant_id

CHANGED = "invoice_exists_with_other_content"
REFUSED = "refused_by_the_books"


def is_stored(invoice: Invoice, stored: Mapping[tuple[str, str], str]) -> bool:
    """Return whether every step of the invoice was done before, with the same content; `stored` as `stored_keys`."""
    steps = steps_of(invoice)
    keys = [(invoice.key.merchant_id, step.key) for step in steps]
    if not all(key in stored for key in keys):
        return False
    return all(stored[key] == body_hash(step.command) for key, step in zip(keys, steps, strict=True))


def is_taken(invoice: Invoice, item: InvoiceRow, stored: Mapping[tuple[str, str], str]) -> bool:
    """Return whether the row's units were taken from stock before: its order is placed, or it was written off."""
    is_line = item.rule.treatment is Treatment.ORDER_LINE
    step = "place" if is_line else f"row/{item.ordinal}"
    return (invoice.key.merchant_id, key_of(invoice.key.number, step)) in stored


def book_sale(pod: CommandPod, invoice: Invoice) -> Outcome:
    """Book the invoice; parts that are booked already stay as they are. What the books refuse is rejected."""
    steps = steps_of(invoice)
    order_steps = [step for step in steps if step.ordinal is None]
    outcomes = [_book_order(pod, invoice, order_steps)] if order_steps else []
    rows = {item.ordinal: item for item in invoice.rows}
    outcomes.extend(book_row(pod, invoice, rows[step.ordinal], step) for step in steps if step.ordinal is not None)
    return combined(outcomes)


def book_row(pod: CommandPod, invoice: Invoice, item: InvoiceRow, step: Step) -> Outcome:
    """Book one row that stands for itself; its outcome is a rejection when the books refuse it."""
    try:
        state = execute(pod, step.command, idempotency_key=step.key, occurred_at=invoice.invoiced_at)
    except (ConflictError, InputError) as error:
        return refused([item], refusal_reason(error))
    if isinstance(state, AdjustmentState):
        return Outcome(rows_imported=1, adjustments=1, amount_micro=adjusted_micro(state))
    is_write_off = item.rule.treatment is Treatment.WRITE_OFF
    return Outcome(rows_imported=1, write_offs=int(is_write_off))


def refusal_reason(error: ConflictError | InputError) -> str:
    """Return the reason that a row is rejected with when the books refused it so."""
    return CHANGED if isinstance(error, IdempotencyConflictError) else REFUSED


def adjusted_micro(state: AdjustmentState) -> int:
    """Return the exact amount of an adjustment."""
    return state.amount_minor * micro_per_minor(state.currency) + state.rounding_micro


def _book_order(pod: CommandPod, invoice: Invoice, steps: list[Step]) -> Outcome:
    rows = invoice.treated(Treatment.ORDER_LINE)
    try:
        order = _place(pod, invoice, steps[0])
    except (ConflictError, InputError) as error:
        return refused(rows, refusal_reason(error))
    return Outcome(
        rows_imported=len(rows),
        orders=1,
        unfinished=int(not _finish(pod, invoice, steps[1:])),
        amount_micro=sum(line.quantity * line.unit_price_micro for line in order.lines),
    )


def _finish(pod: CommandPod, invoice: Invoice, steps: list[Step]) -> bool:
    """Pay and ship the order; False when the books refuse: it stays as it is, and the next import tries again."""
    try:
        for step in steps:
            execute(pod, step.command, idempotency_key=step.key, occurred_at=invoice.invoiced_at)
    except (ConflictError, InputError):
        return False
    return True


def _place(pod: CommandPod, invoice: Invoice, step: Step) -> OrderState:
    """Place the order; units that somebody else sold since the opening receipt are received once more."""
    try:
        state = execute(pod, step.command, idempotency_key=step.key, occurred_at=invoice.invoiced_at)
    except InsufficientStockError:
        _receive(pod, invoice, invoice.invoiced_at)
        state = execute(pod, step.command, idempotency_key=step.key, occurred_at=invoice.invoiced_at)
    if not isinstance(state, OrderState):
        raise TypeError(f"{step.key} did not place an order.")
    return state


def _receive(pod: CommandPod, invoice: Invoice, occurred_at: datetime) -> None:
    units: dict[str, int] = {}
    for item in invoice.treated(Treatment.ORDER_LINE):
        if item.rule.line_kind is LineKind.GOODS:
            units[item.row.stock_code] = units.get(item.row.stock_code, 0) + item.row.quantity
    merchant_id, number = invoice.key
    lines = [StockInput(variant_id=variant_id(merchant_id, code), quantity=count) for code, count in units.items()]
    command = ReceiveStock(merchant_id=merchant_id, location_id=LOCATION, lines=lines, reason=f"for invoice {number}")
    execute(pod, command, idempotency_key=key_of(number, "receive"), occurred_at=occurred_at)
