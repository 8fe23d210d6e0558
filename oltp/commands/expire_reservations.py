"""Release the units of reservations that have expired."""

from __future__ import annotations

from contracts.errors import InputError
from contracts.events.stock import ReservationEvent, ReservationState, ReservationStatus
from contracts.limits import Batch
from oltp.commands.execute import Command
from oltp.domain.reservations import release
from oltp.outbox import Change
from oltp.store import stock
from oltp.store.rows import load, save_all
from oltp.transaction import CommandTransaction

# Rows that another transaction has locked are left to the next run.
_EXPIRED = """
select reservation_id from oltp.reservations
where merchant_id = %s and status = 'held' and expires_at <= %s
order by expires_at, reservation_id
limit %s
for no key update skip locked
"""


class ExpireReservations(Command[list[ReservationState]], frozen=True, kw_only=True):
    """Expire at most `limit` reservations, the oldest first; call again while it returns that many."""

    limit: Batch = 100

    def run(self, tx: CommandTransaction) -> list[ReservationState]:
        """Return the reservations that this call expired."""
        if self.limit < 1:
            raise InputError("The limit must be at least 1.")
        found = tx.query(_EXPIRED, (self.merchant_id, tx.occurred_at, self.limit)).fetchall()
        before = [load(tx, ReservationState, self.merchant_id, reservation_id) for (reservation_id,) in found]
        after = [release(reservation, end=ReservationStatus.EXPIRED) for reservation in before]
        steps = list(zip(before, after, strict=True))
        event = ReservationEvent.RESERVATION_EXPIRED
        save_all(tx, [Change(before=old, after=new, event_type=event) for old, new in steps])
        stock.follow_all(tx, steps)
        return after
