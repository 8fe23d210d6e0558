"""Expiring due reservations for every merchant of a pod; a schedule runs this.

Belongs here: finding merchants with due reservations, and calling the command until none is left. Does not belong here:
what expiry does (`oltp/commands/expire_reservations.py`), when it runs (`orchestration/`).
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from contracts.errors import StackError
from oltp.commands.execute import CommandPod, execute
from oltp.commands.expire_reservations import ExpireReservations

_DUE = """
select distinct reservations.merchant_id
from oltp.reservations
inner join oltp.residents using (merchant_id)
where reservations.status = 'held' and reservations.expires_at <= %(now)s
  and (%(merchants)s::text[] is null or reservations.merchant_id = any(%(merchants)s))
order by reservations.merchant_id
"""


def expire_due_reservations(pod: CommandPod, *, merchant_ids: Sequence[str] | None = None, limit: int = 100) -> int:
    """Expire the due reservations (None: of all merchants), at most `limit` per transaction; return their number.

    A merchant without due reservations gets no command, so no idempotency key is stored for it. Reservations that
    another transaction has locked are left to the next run. Raises as `execute` does.
    """
    due = {"now": pod.clock(), "merchants": None if merchant_ids is None else list(merchant_ids)}
    try:
        with pod.connections.connection() as connection:
            merchants = [merchant_id for (merchant_id,) in connection.execute(_DUE, due).fetchall()]
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"{pod.pod}'s database did not say which reservations are due: {reason}") from None
    return sum(_expire(pod, merchant_id, limit) for merchant_id in merchants)


def _expire(pod: CommandPod, merchant_id: str, limit: int) -> int:
    expired = 0
    while True:
        command = ExpireReservations(merchant_id=merchant_id, limit=limit)
        done = len(execute(pod, command, idempotency_key=f"expiry/{pod.new_uuid()}"))
        expired += done
        if done < limit:
            return expired
