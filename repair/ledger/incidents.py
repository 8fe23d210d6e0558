"""Reading the ledger for those who act on it by themselves: what waits for a repair in which pod, what has ended.

Belongs here: these reads. Does not belong here: claiming (`states.py`), deciding what is told (`repair/alerts/`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from repair.ledger.tables import reading

WAITING = """
select b.pod,
       array_agg(distinct b.group_id order by b.group_id) filter (where is_waiting) as group_ids,
       (array_agg(g.opened_run order by g.group_id desc) filter (where is_waiting))[1] as found_by,
       count(*) filter (where is_waiting) as breaks,
       max(b.break_id) filter (where is_waiting) as newest_break_id,
       coalesce(max(b.repairs) filter (where is_waiting), 0) + 1 as attempt,
       bool_or(b.state = 'repairing' and not is_waiting) as is_claimed
from trust.breaks as b
join trust.break_groups as g on g.group_id = b.group_id
cross join lateral (
    select b.state = 'open'
        or b.state = 'repairing' and (b.lease_until <= %(now)s or b.claimed_run = any(%(abandoned)s)) as is_waiting
) as waiting
where b.state in ('open', 'repairing')
group by b.pod
having count(*) filter (where is_waiting) > 0
order by b.pod
"""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Breaks of one pod that no repair works on."""

    pod: str
    group_ids: list[int]
    """Their incidents, ascending."""
    found_by: str
    """The run that found the newest of them."""
    breaks: int
    newest_break_id: int
    attempt: int
    """Which attempt the next repair of the most often tried one is, from 1."""
    is_claimed: bool
    """Whether a repair works on other breaks of the pod right now."""


def waiting_for_repair(control_dsn: str, now: datetime, abandoned: Collection[str] = ()) -> list[Waiting]:
    """Return what is open, or was claimed by a repair that died, by pod; pods without such breaks are left out.

    `abandoned` are the runs of which is known that they died; others are once their lease is over.
    """
    with reading(control_dsn) as connection, connection.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(WAITING, {"now": now, "abandoned": list(abandoned)}).fetchall()


def ended_group_ids(control_dsn: str, since: datetime) -> list[int]:
    """Return the incidents that ended after a moment, the oldest first."""
    query = "select group_id from trust.break_groups where ended_at > %s order by group_id"
    with reading(control_dsn) as connection:
        return [row["group_id"] for row in connection.execute(query, (since,)).fetchall()]
