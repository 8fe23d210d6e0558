"""Booking invoices that are not credit notes: their orders, and their rows that belong to no order.

Belongs here: running the steps of invoices against one pod; idempotent. Does not belong here: the steps of an invoice
(`invoice_commands.py`), which invoices run in which pod (`importing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts.errors import ConflictError, IdempotencyConflictError, InputError, InsufficientStockError
from contracts.events.adjustment import AdjustmentState
from contracts.events.order import LineKind, OrderState
from contracts.money import micro_per_minor
from oltp.commands.batch import BatchItem, execute_batch
from oltp.commands.body import has_body
from oltp.commands.execute import CommandPod, execute
from oltp.commands.receive_stock import ReceiveStock, StockInput
from traffic.retail.invoice_commands import LOCATION, Step, key_of, steps_of, variant_id
from traffic.retail.invoices import Invoice, InvoiceRow
from traffic.retail.report import Outcome, combined, refused
from traffic.retail.rules import Treatment

CHANGED = "invoice_exists_with_other_content"
REFUSED = "refused_by_the_books"


def is_stored(invoice: Invoice, stored: Mapping[tuple[str, str], str]) -> bool:
    """Return whether every step of the invoice is already booked with the same content; `stored` from `stored_keys`."""
    steps = steps_of(invoice)
    keys = [(invoice.key.merchant_id, step.key) for step in steps]
    if not all(key in stored for key in keys):
        return False
    return all(has_body(step.command, stored[key]) for key, step in zip(keys, steps, strict=True))


def is_taken(invoice: Invoice, item: InvoiceRow, stored: Mapping[tuple[str, str], str]) -> bool:
    """Return whether the row's units are already taken from stock: its order is placed, or it is written off."""
    is_line = item.rule.treatment is Treatment.ORDER_LINE
    step = "place" if is_line else f"row/{item.ordinal}"
    return (invoice.key.merchant_id, key_of(invoice.key.number, step)) in stored


def book_sales(pod: CommandPod, invoices: Sequence[Invoice]) -> list[Outcome]:
    """Book the invoices; already booked parts stay unchanged. Refused parts are rejected.

    Each kind of step runs for all invoices before the next kind, so that commands of one type can share a transaction.
    """
    steps = [steps_of(invoice) for invoice in invoices]
    orders = [
        _Order(invoice=invoice, steps=own, number=number)
        for number, (invoice, mine) in enumerate(zip(invoices, steps, strict=True))
        if (own := [step for step in mine if step.ordinal is None])
    ]
    outcomes: list[list[Outcome]] = [[] for _ in invoices]
    for order, outcome in zip(orders, _book_orders(pod, orders), strict=True):
        outcomes[order.number].append(outcome)
    rows = [(number, step) for number, mine in enumerate(steps) for step in mine if step.ordinal is not None]
    for (number, step), answer in zip(rows, _run(pod, [(invoices[n], step) for n, step in rows]), strict=True):
        item = next(item for item in invoices[number].rows if item.ordinal == step.ordinal)
        outcomes[number].append(_row_outcome(item, answer))
    return [combined(parts) for parts in outcomes]


def book_row(pod: CommandPod, invoice: Invoice, item: InvoiceRow, step: Step) -> Outcome:
    """Book one row that belongs to no order; the outcome is a rejection when the command is refused."""
    (answer,) = _run(pod, [(invoice, step)])
    return _row_outcome(item, answer)


def _row_outcome(item: InvoiceRow, answer: object) -> Outcome:
    if isinstance(answer, ConflictError | InputError):
        return refused([item], refusal_reason(answer), str(answer))
    if isinstance(answer, AdjustmentState):
        return Outcome(rows_imported=1, adjustments=1, amount_micro=adjusted_micro(answer))
    is_write_off = item.rule.treatment is Treatment.WRITE_OFF
    return Outcome(rows_imported=1, write_offs=int(is_write_off))


def refusal_reason(error: ConflictError | InputError) -> str:
    """Return the rejection reason for an error of a command."""
    return CHANGED if isinstance(error, IdempotencyConflictError) else REFUSED


def adjusted_micro(state: AdjustmentState) -> int:
    """Return the exact amount of an adjustment, in micro-units."""
    return state.amount_minor * micro_per_minor(state.currency) + state.rounding_micro


@dataclass(frozen=True, kw_only=True)
class _Order:
    """An invoice with an order, and the order's steps: placing first, then payment, shipping last."""

    invoice: Invoice
    steps: list[Step]
    number: int
    """The index of the invoice in its batch."""


def _book_orders(pod: CommandPod, orders: Sequence[_Order]) -> list[Outcome]:
    placed = [
        _placed_after_receipt(pod, order) if isinstance(answer, InsufficientStockError) else answer
        for order, answer in zip(orders, _run(pod, [(order.invoice, order.steps[0]) for order in orders]), strict=True)
    ]
    placed_orders = [order for order, answer in zip(orders, placed, strict=True) if isinstance(answer, OrderState)]
    paid = _paid(pod, placed_orders)
    shipped = _run(pod, [(order.invoice, order.steps[-1]) for order in paid])
    finished = {
        order.number
        for order, answer in zip(paid, shipped, strict=True)
        if not isinstance(answer, ConflictError | InputError)
    }
    return [
        _order_outcome(order, answer, is_finished=order.number in finished)
        for order, answer in zip(orders, placed, strict=True)
    ]


def _order_outcome(order: _Order, placed: object, *, is_finished: bool) -> Outcome:
    """Return the outcome of the order; the next import retries an order that is not paid or shipped."""
    rows = order.invoice.treated(Treatment.ORDER_LINE)
    if isinstance(placed, ConflictError | InputError):
        return refused(rows, refusal_reason(placed), str(placed))
    if not isinstance(placed, OrderState):
        raise TypeError(f"{order.steps[0].key} did not place an order.")
    return Outcome(
        rows_imported=len(rows),
        orders=1,
        unfinished=int(not is_finished),
        amount_micro=sum(line.quantity * line.unit_price_micro for line in placed.lines),
    )


def _paid(pod: CommandPod, orders: Sequence[_Order]) -> list[_Order]:
    """Run the payment steps; return the orders that may be shipped, including free orders."""
    left = list(orders)
    for place in range(1, max((len(order.steps) - 1 for order in orders), default=1)):
        paying = [order for order in left if place < len(order.steps) - 1]
        answers = _run(pod, [(order.invoice, order.steps[place]) for order in paying])
        refused_numbers = {
            order.number
            for order, answer in zip(paying, answers, strict=True)
            if isinstance(answer, ConflictError | InputError)
        }
        left = [order for order in left if order.number not in refused_numbers]
    return left


def _placed_after_receipt(pod: CommandPod, order: _Order) -> object:
    """Receive the units that other orders took since the opening receipt, and place the order again."""
    try:
        _receive(pod, order.invoice, order.invoice.invoiced_at)
    except (ConflictError, InputError) as error:
        return error
    (answer,) = _run(pod, [(order.invoice, order.steps[0])])
    return answer


def _run(pod: CommandPod, steps: Sequence[tuple[Invoice, Step]]) -> list[Any]:
    """Return for each step the command's answer, or the error that refused it."""
    return execute_batch(
        pod,
        [
            BatchItem(command=step.command, idempotency_key=step.key, occurred_at=invoice.invoiced_at)
            for invoice, step in steps
        ],
    )


def _receive(pod: CommandPod, invoice: Invoice, occurred_at: datetime) -> None:
    units: dict[str, int] = {}
    for item in invoice.treated(Treatment.ORDER_LINE):
        if item.rule.line_kind is LineKind.GOODS:
            units[item.row.stock_code] = units.get(item.row.stock_code, 0) + item.row.quantity
    merchant_id, number = invoice.key
    lines = [StockInput(variant_id=variant_id(merchant_id, code), quantity=count) for code, count in units.items()]
    command = ReceiveStock(merchant_id=merchant_id, location_id=LOCATION, lines=lines, reason=f"for invoice {number}")
    execute(pod, command, idempotency_key=key_of(number, "receive"), occurred_at=occurred_at)
