"""Release the units of a reservation to stock."""

from __future__ import annotations

from contracts.errors import ConflictError
from contracts.events.stock import ReservationEvent, ReservationState
from contracts.limits import Uuid
from oltp.commands.execute import Command
from oltp.domain.reservations import release
from oltp.store import stock
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class ReleaseReservation(Command[ReservationState], frozen=True, kw_only=True):
    """Release a reservation that no order has taken over."""

    reservation_id: Uuid

    def run(self, tx: CommandTransaction) -> ReservationState:
        """Return the released reservation; IllegalTransitionError when it no longer holds units."""
        before = load(tx, ReservationState, self.merchant_id, self.reservation_id)
        if before.order_id is not None:
            raise ConflictError(f"Reservation {self.reservation_id} belongs to order {before.order_id}; cancel that.")
        after = release(before)
        save(tx, before, after, ReservationEvent.RESERVATION_RELEASED)
        stock.follow(tx, before, after)
        return after
