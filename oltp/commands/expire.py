"""End what has a time and whose time is over: held units go back to stock, gift cards can be spent no more.

Belongs here: what expires, as declarations, and the one way in which all of it ends. Does not belong here: the rules of
an end (`oltp/domain/`), for which merchants and when it runs (`oltp/expiry.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Generic, TypeVar

from contracts.errors import InputError
from contracts.events.common import AggregateState
from contracts.events.gift_card import GiftCardEvent, GiftCardState, GiftCardStatus
from contracts.events.stock import ReservationEvent, ReservationState, ReservationStatus
from contracts.limits import Batch
from oltp.commands.execute import Command
from oltp.domain import gift_cards, reservations
from oltp.outbox import Change
from oltp.store import stock
from oltp.store.mapping import MAPPINGS
from oltp.store.rows import load, save_all
from oltp.transaction import CommandTransaction

State = TypeVar("State", bound=AggregateState)
Steps = Sequence[tuple[State, State]]
"""Each state before and after its end."""


def _nothing(tx: CommandTransaction, steps: Steps[State]) -> None:
    """Change nothing else."""


@dataclass(frozen=True, kw_only=True)
class Expiring(Generic[State]):
    """A kind of aggregate that ends by itself at its `expires_at`."""

    state_type: type[State]
    named: str
    """What several of them are called, in messages."""
    waiting: tuple[StrEnum, ...]
    """The statuses of one that has not ended yet."""
    event: StrEnum
    end: Callable[[State, datetime], State]
    """Returns the state after its end, at a time."""
    follow: Callable[[CommandTransaction, Steps[State]], None] = _nothing
    """Changes what else depends on them."""

    @cached_property
    def due(self) -> bytes:
        """Lock the merchant's due ones, the oldest first; rows that another transaction has locked are left out."""
        mapping = MAPPINGS[self.state_type]
        return f"""
            select {mapping.id_field} from {mapping.table}
            where merchant_id = %s and {self._waits} and expires_at <= %s
            order by expires_at, {mapping.id_field}
            limit %s
            for no key update skip locked
        """.encode()

    @property
    def _waits(self) -> str:
        listed = ", ".join(f"'{status}'" for status in self.waiting)
        return f"status = {listed}" if len(self.waiting) == 1 else f"status in ({listed})"

    @cached_property
    def merchants_due(self) -> bytes:
        """Select the resident merchants with due ones: all, or those of `merchants`."""
        return f"""
            select distinct due.merchant_id
            from {MAPPINGS[self.state_type].table} as due inner join oltp.residents using (merchant_id)
            where due.{self._waits} and due.expires_at <= %(now)s
              and (%(merchants)s::text[] is null or due.merchant_id = any(%(merchants)s))
            order by due.merchant_id
        """.encode()


RESERVATIONS = Expiring(
    state_type=ReservationState,
    named="reservations",
    waiting=(ReservationStatus.HELD,),
    event=ReservationEvent.RESERVATION_EXPIRED,
    end=lambda reservation, _: reservations.release(reservation, end=ReservationStatus.EXPIRED),
    follow=stock.follow_all,
)
GIFT_CARDS = Expiring(
    state_type=GiftCardState,
    named="gift cards",
    waiting=(GiftCardStatus.ACTIVE,),
    event=GiftCardEvent.GIFT_CARD_EXPIRED,
    end=gift_cards.expire,
)


class ExpireReservations(Command[list[ReservationState]], frozen=True, kw_only=True):
    """Expire at most `limit` reservations, the oldest first; call again while it returns that many."""

    limit: Batch = 100

    def run(self, tx: CommandTransaction) -> list[ReservationState]:
        """Return the reservations that this call expired."""
        return _expire(tx, self.merchant_id, self.limit, RESERVATIONS)


class ExpireGiftCards(Command[list[GiftCardState]], frozen=True, kw_only=True):
    """End at most `limit` gift cards, the oldest first; call again while it returns that many."""

    limit: Batch = 100

    def run(self, tx: CommandTransaction) -> list[GiftCardState]:
        """Return the cards that ended by this call."""
        return _expire(tx, self.merchant_id, self.limit, GIFT_CARDS)


def _expire(tx: CommandTransaction, merchant_id: str, limit: int, kind: Expiring[State]) -> list[State]:
    if limit < 1:
        raise InputError("The limit must be at least 1.")
    found = tx.query(kind.due, (merchant_id, tx.occurred_at, limit)).fetchall()
    before = [load(tx, kind.state_type, merchant_id, aggregate_id) for (aggregate_id,) in found]
    after = [kind.end(state, tx.occurred_at) for state in before]
    steps = list(zip(before, after, strict=True))
    save_all(tx, [Change(before=old, after=new, event_type=kind.event) for old, new in steps])
    kind.follow(tx, steps)
    return after
