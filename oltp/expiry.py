"""Ending what has a time and whose time is over, for every merchant of a pod: what a schedule runs.

Belongs here: which merchants have some, and calling the command until none is left. Does not belong here: what expires,
and how (`oltp/commands/expire.py`, `expire_payment.py`), when it runs (`orchestration/`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg

from contracts.errors import ConflictError, GatewayDeclinedError, GatewayError, StackError
from oltp.commands.execute import Command, CommandPod, execute
from oltp.commands.expire import GIFT_CARDS, RESERVATIONS, ExpireGiftCards, ExpireReservations, Expiring
from oltp.commands.expire_payment import PAYMENTS, ExpirePayment

logger = logging.getLogger("tieout.commands")

_DUE_PAYMENTS = """
select payment_id::text, expires_at from oltp.payments
where merchant_id = %s and status in ('pending', 'captured') and expires_at <= %s
    and (expires_at, payment_id) > (%s, %s::uuid)
order by expires_at, payment_id
limit %s
"""
_BEFORE_ALL = ("00000000-0000-0000-0000-000000000000", datetime.min.replace(tzinfo=UTC))
_ONE_KEY = timedelta(hours=1)
"""How long an attempt keeps its key. Under it a call without an answer is continued, and a refusal stays a refusal."""


def expire_due(
    pod: CommandPod,
    *,
    kinds: Sequence[Expiring[Any]] = (RESERVATIONS, GIFT_CARDS, PAYMENTS),
    merchant_ids: Sequence[str] | None = None,
    limit: int = 100,
) -> int:
    """Expire what is due now (`merchant_ids` None: of all merchants), at most `limit` at a time; return how many.

    A merchant with nothing due gets no command, so no idempotency key is stored for it. Rows that another transaction
    has locked are left to the next run, and so are payments for which the provider does not answer or refuses. Raises
    as `execute` does.
    """
    return sum(
        _ENDING[kind](pod, merchant_id, limit) for kind in kinds for merchant_id in _merchants(pod, kind, merchant_ids)
    )


def _merchants(pod: CommandPod, kind: Expiring[Any], merchant_ids: Sequence[str] | None) -> list[str]:
    due = {"now": pod.clock(), "merchants": None if merchant_ids is None else list(merchant_ids)}
    return [merchant_id for (merchant_id,) in _rows(pod, kind, kind.merchants_due, due)]


def _rows(pod: CommandPod, kind: Expiring[Any], query: bytes, values: Any) -> list[tuple[Any, ...]]:
    try:
        with pod.connections.connection() as connection:
            return connection.execute(query, values).fetchall()
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"{pod.pod}'s database did not say which {kind.named} are due: {reason}") from None


def _expire(command: Callable[..., Command[list[Any]]], pod: CommandPod, merchant_id: str, limit: int) -> int:
    expired = 0
    while True:
        whole = command(merchant_id=merchant_id, limit=limit)
        done = len(execute(pod, whole, idempotency_key=f"expiry/{pod.new_uuid()}"))
        expired += done
        if done < limit:
            return expired


def _expire_payments(pod: CommandPod, merchant_id: str, limit: int) -> int:
    """End a merchant's payments that are due, one by one, because each asks the provider."""
    expired, now, last = 0, pod.clock(), _BEFORE_ALL
    while True:
        due = _rows(pod, PAYMENTS, _DUE_PAYMENTS.encode(), (merchant_id, now, last[1], last[0], limit))
        for payment_id, expires_at in due:
            try:
                expired += _expire_payment(pod, merchant_id, payment_id, (now - expires_at) // _ONE_KEY)
            except GatewayError as error:
                logger.warning("Payment %s of %s: %s", payment_id, merchant_id, error)
                return expired
        if len(due) < limit:
            return expired
        last = due[-1]


def _expire_payment(pod: CommandPod, merchant_id: str, payment_id: str, attempt: int) -> bool:
    command = ExpirePayment(merchant_id=merchant_id, payment_id=payment_id)
    try:
        execute(pod, command, idempotency_key=f"expiry/{payment_id}/{attempt}")
    except GatewayDeclinedError as refused:
        logger.info("Payment %s of %s is waited for a while more: %s", payment_id, merchant_id, refused)
        return False
    except ConflictError:
        # Its money came at this moment, or another call for it is under way.
        return False
    return True


_ENDING: Mapping[Expiring[Any], Callable[[CommandPod, str, int], int]] = {
    RESERVATIONS: partial(_expire, ExpireReservations),
    GIFT_CARDS: partial(_expire, ExpireGiftCards),
    PAYMENTS: _expire_payments,
}
"""Everything that expires by itself, and what ends it."""
