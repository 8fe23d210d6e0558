"""Reserve units for a customer who may order them."""

from __future__ import annotations

from typing import Annotated

from contracts.errors import InputError
from contracts.events.stock import ReservationEvent, ReservationLine, ReservationState, ReservationStatus
from contracts.limits import LINES, At, StoredName, Uuid
from oltp.commands.execute import Command
from oltp.commands.receive_stock import StockInput, units_by_variant
from oltp.store import stock
from oltp.store.rows import save
from oltp.transaction import CommandTransaction


class ReserveStock(Command[ReservationState], frozen=True, kw_only=True):
    """Reserve units at one location, until `expires_at` or until an order takes the reservation over."""

    location_id: StoredName
    lines: Annotated[list[StockInput], LINES]
    expires_at: At
    reservation_id: Uuid | None = None

    def run(self, tx: CommandTransaction) -> ReservationState:
        """Return the reservation; InsufficientStockError (and no reservation) when a variant has fewer units free."""
        if self.expires_at <= tx.occurred_at:
            raise InputError("A reservation must expire later than now.")
        units = units_by_variant(self.lines)
        lines = [
            ReservationLine(
                reservation_line_id=tx.new_id(),
                variant_id=variant_id,
                location_id=self.location_id,
                quantity=quantity,
                consumed_quantity=0,
                released_quantity=0,
            )
            for variant_id, quantity in units.items()
        ]
        reservation = ReservationState(
            merchant_id=self.merchant_id,
            version=1,
            reservation_id=self.reservation_id or tx.new_id(),
            order_id=None,
            status=ReservationStatus.HELD,
            expires_at=self.expires_at,
            lines=sorted(lines, key=lambda line: line.reservation_line_id),
        )
        save(tx, None, reservation, ReservationEvent.STOCK_RESERVED)
        stock.follow(tx, None, reservation)
        return reservation
