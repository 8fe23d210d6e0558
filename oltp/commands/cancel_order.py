"""Cancel an order, wholly or in part: units that are neither fulfilled, refunded nor paid for by a capture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from contracts.events.order import OrderEvent, OrderState
from contracts.events.stock import ReservationEvent, ReservationState
from contracts.limits import LINES, Note, Uuid
from oltp.commands.execute import Command
from oltp.commands.quantities import QuantityInput, by_line
from oltp.domain.orders import cancel_order, units_released
from oltp.domain.provider_calls import CallKind, in_flight_minor
from oltp.domain.refunds import LineRefunds
from oltp.domain.reservations import release
from oltp.outbox import Change
from oltp.store import stock
from oltp.store.payments import captured_of_order, line_refunds
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask, ask_by, save_all
from oltp.transaction import CommandTransaction


class CancelOrder(Command[OrderState], frozen=True, kw_only=True):
    """Cancel units of an order; `lines` None: every open unit. Held goods go back to stock.

    Money that is only authorized is not voided: void the payment, or capture what is still owed.
    """

    order_id: Uuid
    lines: Annotated[list[QuantityInput], LINES] | None = None
    reason: Note = ""

    def run(self, tx: CommandTransaction) -> OrderState:
        """Return the order afterwards; ConflictError when units are not open, or were refunded or captured."""
        ask_order = ask(tx, OrderState, self.merchant_id, self.order_id)
        ask_held = ask_by(tx, ReservationState, self.merchant_id, "order_id", self.order_id)
        captured, refunds = captured_of_order(tx, self.order_id), line_refunds(tx, self.order_id)
        calls = calls_of_order(tx, self.merchant_id, self.order_id)
        order, paid_back = ask_order(), refunds()
        # Captures under way count as captured.
        captured_minor = captured() + in_flight_minor(calls(), CallKind.CAPTURE)
        after = cancel_order(order, by_line(self.lines), captured_minor=captured_minor, refunds=paid_back)
        save_cancelled(tx, order, after, paid_back, ask_held)
        return after


def save_cancelled(
    tx: CommandTransaction,
    order: OrderState,
    after: OrderState,
    refunds: Mapping[str, LineRefunds],
    ask_held: Callable[[], list[ReservationState]],
) -> None:
    """Write a cancelled order, and give the units back to stock that it holds no more."""
    changes = [Change(before=order, after=after, event_type=OrderEvent.ORDER_CANCELLED)]
    units = units_released((order, refunds), (after, refunds))
    if not units:
        save_all(tx, changes)
        return
    (held,) = ask_held()
    released = release(held, units)
    event = Change(before=held, after=released, event_type=ReservationEvent.RESERVATION_RELEASED)
    save_all(tx, [*changes, event])
    stock.release(tx, order.merchant_id, held.lines[0].location_id, units)
