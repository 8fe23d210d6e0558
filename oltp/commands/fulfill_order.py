"""Fulfill an order, wholly or in part: units leave the stock, services count as rendered, all in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from contracts.errors import ConflictError
from contracts.events.fulfillment import FulfillmentEvent, FulfillmentLine, FulfillmentState
from contracts.events.order import LineKind, OrderEvent, OrderState
from contracts.events.stock import ReservationEvent, ReservationState, StockMovementKind
from contracts.limits import LINES, Reference, StoredName, Uuid
from oltp.commands.execute import Command
from oltp.commands.quantities import QuantityInput, by_line
from oltp.domain.orders import fulfill_order
from oltp.domain.pending_payments import require_paid
from oltp.domain.reservations import consume, held_quantity
from oltp.outbox import Change
from oltp.store import stock
from oltp.store.payments import later_money_of_order, line_refunds
from oltp.store.rows import ask, ask_by, save_all
from oltp.transaction import CommandTransaction


class FulfillOrder(Command[FulfillmentState], frozen=True, kw_only=True):
    """Ship units of an order from the location that holds them; `lines` None: every open unit that is not refunded.

    Open shipping lines count as rendered with the first fulfillment, named or not.
    """

    IS_BATCHABLE: ClassVar[bool] = True

    order_id: Uuid
    location_id: StoredName
    lines: Annotated[list[QuantityInput], LINES] | None = None
    tracking_number: Reference | None = None

    def run(self, tx: CommandTransaction) -> FulfillmentState:
        """Return the fulfillment.

        Raises ConflictError when more units are named than are open and not refunded, when the units are held at
        another location, or when money is waited for and the merchant does not ship before it is there.

        A refund that was requested counts like a completed one until it fails.
        """
        ask_order = ask(tx, OrderState, self.merchant_id, self.order_id)
        ask_held = ask_by(tx, ReservationState, self.merchant_id, "order_id", self.order_id)
        refunds = line_refunds(tx, self.order_id)
        ask_paid = later_money_of_order(tx, self.merchant_id, self.order_id)
        order = ask_order()
        require_paid(order, ask_paid())
        after, quantities = fulfill_order(order, by_line(self.lines), refunds=refunds())
        fulfillment = _fulfillment(tx, self, quantities)
        changes = [
            Change(before=order, after=after, event_type=OrderEvent.ORDER_FULFILLED),
            Change(before=None, after=fulfillment, event_type=FulfillmentEvent.FULFILLMENT_SHIPPED),
        ]
        units = _goods_units(order, quantities)
        if not units:
            save_all(tx, changes)
            return fulfillment
        (held,) = ask_held()
        _require_location(held, self.location_id, units)
        consumed = Change(before=held, after=consume(held, units), event_type=ReservationEvent.RESERVATION_CONSUMED)
        save_all(tx, [*changes, consumed])
        self._ship(tx, units)
        return fulfillment

    def _ship(self, tx: CommandTransaction, units: Mapping[str, int]) -> None:
        stock.move(
            tx,
            self.merchant_id,
            self.location_id,
            StockMovementKind.SHIPPED,
            {variant_id: -quantity for variant_id, quantity in units.items()},
            "order fulfilled",
            order_id=self.order_id,
            is_reserved=True,
        )


def _fulfillment(tx: CommandTransaction, command: FulfillOrder, quantities: Mapping[str, int]) -> FulfillmentState:
    lines = [
        FulfillmentLine(fulfillment_line_id=tx.new_id(), order_line_id=line_id, quantity=quantity)
        for line_id, quantity in quantities.items()
    ]
    return FulfillmentState(
        merchant_id=command.merchant_id,
        version=1,
        fulfillment_id=tx.new_id(),
        order_id=command.order_id,
        location_id=command.location_id,
        tracking_number=command.tracking_number,
        shipped_at=tx.occurred_at,
        lines=sorted(lines, key=lambda line: line.fulfillment_line_id),
    )


def _goods_units(order: OrderState, quantities: Mapping[str, int]) -> dict[str, int]:
    """Return the units that leave the stock, by variant id."""
    units: dict[str, int] = {}
    for line in order.lines:
        quantity = quantities.get(line.order_line_id, 0)
        if quantity and line.kind is LineKind.GOODS and line.variant_id is not None:
            units[line.variant_id] = units.get(line.variant_id, 0) + quantity
    return units


def _require_location(held: ReservationState, location_id: str, units: Mapping[str, int]) -> None:
    for line in held.lines:
        if line.variant_id in units and held_quantity(line) and line.location_id != location_id:
            raise ConflictError(f"The order's units are held at {line.location_id}, not at {location_id}.")
