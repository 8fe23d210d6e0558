"""Ending what has a time and whose time is over, for every merchant of a pod: what a schedule runs.

Belongs here: which merchants have some, and calling the command until none is left. Does not belong here: what expires,
and how (`oltp/commands/expire.py`, `expire_payments.py`), when it runs (`orchestration/`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from contracts.errors import StackError
from oltp.commands.execute import Command, CommandPod, execute
from oltp.commands.expire import GIFT_CARDS, RESERVATIONS, ExpireGiftCards, ExpireReservations, Expiring
from oltp.commands.expire_payments import PAYMENTS, ExpirePayments

COMMANDS: Mapping[Expiring[Any], Callable[..., Command[list[Any]]]] = {
    RESERVATIONS: ExpireReservations,
    GIFT_CARDS: ExpireGiftCards,
    PAYMENTS: ExpirePayments,
}
"""Everything that expires by itself, in the order in which it does, and the command that ends it."""


def expire_due(
    pod: CommandPod,
    *,
    kinds: Sequence[Expiring[Any]] = tuple(COMMANDS),
    merchant_ids: Sequence[str] | None = None,
    limit: int = 100,
) -> int:
    """Expire what is due now (`merchant_ids` None: of all merchants), at most `limit` per transaction; return how many.

    A merchant with nothing due gets no command, so no idempotency key is stored for it. Rows that another transaction
    has locked are left to the next run. Raises as `execute` does.
    """
    return sum(
        _expire(pod, COMMANDS[kind](merchant_id=merchant_id, limit=limit), limit)
        for kind in kinds
        for merchant_id in _merchants(pod, kind, merchant_ids)
    )


def _merchants(pod: CommandPod, kind: Expiring[Any], merchant_ids: Sequence[str] | None) -> list[str]:
    due = {"now": pod.clock(), "merchants": None if merchant_ids is None else list(merchant_ids)}
    try:
        with pod.connections.connection() as connection:
            return [merchant_id for (merchant_id,) in connection.execute(kind.merchants_due, due).fetchall()]
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"{pod.pod}'s database did not say which {kind.named} are due: {reason}") from None


def _expire(pod: CommandPod, command: Command[list[Any]], limit: int) -> int:
    expired = 0
    while True:
        done = len(execute(pod, command, idempotency_key=f"expiry/{pod.new_uuid()}"))
        expired += done
        if done < limit:
            return expired
