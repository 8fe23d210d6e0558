"""Giving reservations back whose time is over, for every merchant of a pod: what a schedule runs.

Belongs here: which merchants have some, and calling the command until none is left. Does not belong here: what expiry
does (`oltp/commands/expire_reservations.py`), when it runs (`orchestration/`).
"""

from __future__ import annotations

from oltp.commands.execute import CommandPod, execute
from oltp.commands.expire_reservations import ExpireReservations

_DUE = """
select distinct reservations.merchant_id
from oltp.reservations
inner join oltp.residents using (merchant_id)
where reservations.status = 'held' and reservations.expires_at <= %s
order by reservations.merchant_id
"""


def expire_due_reservations(pod: CommandPod, *, limit: int = 100) -> int:
    """Expire what is due now, at most `limit` reservations a transaction; return how many were.

    Those that somebody else is changing at this moment are left to the next run. Raises as `execute` does.
    """
    with pod.connections.connection() as connection:
        merchants = [merchant_id for (merchant_id,) in connection.execute(_DUE, (pod.clock(),)).fetchall()]
    return sum(_expire(pod, merchant_id, limit) for merchant_id in merchants)


def _expire(pod: CommandPod, merchant_id: str, limit: int) -> int:
    expired = 0
    while True:
        command = ExpireReservations(merchant_id=merchant_id, limit=limit)
        done = len(execute(pod, command, idempotency_key=f"expiry/{pod.new_uuid()}"))
        expired += done
        if done < limit:
            return expired
