"""Ending what has a time and whose time is over, for every merchant of a pod: what a schedule runs.

Reservations give their units back; gift cards can be spent no more. Belongs here: which merchants have some, and
calling the command until none is left. Does not belong here: what expiry does (`oltp/commands/expire_reservations.py`,
`expire_gift_cards.py`), when it runs (`orchestration/`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, LiteralString

import psycopg

from contracts.errors import StackError
from oltp.commands.execute import Command, CommandPod, execute
from oltp.commands.expire_gift_cards import ExpireGiftCards
from oltp.commands.expire_reservations import ExpireReservations

_RESERVATIONS = """
select distinct reservations.merchant_id
from oltp.reservations
inner join oltp.residents using (merchant_id)
where reservations.status = 'held' and reservations.expires_at <= %(now)s
  and (%(merchants)s::text[] is null or reservations.merchant_id = any(%(merchants)s))
order by reservations.merchant_id
"""
_GIFT_CARDS = """
select distinct gift_cards.merchant_id
from oltp.gift_cards
inner join oltp.residents using (merchant_id)
where gift_cards.status = 'active' and gift_cards.expires_at <= %(now)s
  and (%(merchants)s::text[] is null or gift_cards.merchant_id = any(%(merchants)s))
order by gift_cards.merchant_id
"""


def expire_due(pod: CommandPod, *, merchant_ids: Sequence[str] | None = None, limit: int = 100) -> int:
    """Expire everything that is due now, reservations first; return how many, as below."""
    return sum(expire(pod, merchant_ids=merchant_ids, limit=limit) for expire in EXPIRING)


def expire_due_reservations(pod: CommandPod, *, merchant_ids: Sequence[str] | None = None, limit: int = 100) -> int:
    """Expire the due reservations (None: of all merchants), at most `limit` per transaction; return their number.

    A merchant without due reservations gets no command, so no idempotency key is stored for it. Reservations that
    another transaction has locked are left to the next run. Raises as `execute` does.
    """
    return sum(
        _expire(pod, ExpireReservations(merchant_id=merchant_id, limit=limit), limit)
        for merchant_id in _merchants(pod, _RESERVATIONS, "reservations", merchant_ids)
    )


def expire_due_gift_cards(pod: CommandPod, *, merchant_ids: Sequence[str] | None = None, limit: int = 100) -> int:
    """Expire the gift cards that are due, in the same way."""
    return sum(
        _expire(pod, ExpireGiftCards(merchant_id=merchant_id, limit=limit), limit)
        for merchant_id in _merchants(pod, _GIFT_CARDS, "gift cards", merchant_ids)
    )


EXPIRING: tuple[Callable[..., int], ...] = (expire_due_reservations, expire_due_gift_cards)
"""Everything that expires by itself."""


def _merchants(pod: CommandPod, question: LiteralString, what: str, merchant_ids: Sequence[str] | None) -> list[str]:
    due = {"now": pod.clock(), "merchants": None if merchant_ids is None else list(merchant_ids)}
    try:
        with pod.connections.connection() as connection:
            return [merchant_id for (merchant_id,) in connection.execute(question, due).fetchall()]
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"{pod.pod}'s database did not say which {what} are due: {reason}") from None


def _expire(pod: CommandPod, command: Command[list[Any]], limit: int) -> int:
    expired = 0
    while True:
        done = len(execute(pod, command, idempotency_key=f"expiry/{pod.new_uuid()}"))
        expired += done
        if done < limit:
            return expired
