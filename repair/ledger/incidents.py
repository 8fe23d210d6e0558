"""Reads of the ledger for automatic repairs and alerts: breaks that wait for a repair, incidents that have ended.

Belongs here: these reads. Does not belong here: claiming (`states.py`), deciding which alerts are due
(`repair/alerts/`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from repair.ledger.schema import reading

WAITING = """
select b.pod,
       array_agg(distinct b.group_id order by b.group_id) filter (where is_waiting) as group_ids,
       (array_agg(g.opened_run order by g.group_id desc) filter (where is_waiting))[1] as found_by,
       count(*) filter (where is_waiting) as breaks,
       max(b.break_id) filter (where is_waiting) as newest_break_id,
       coalesce(max(b.repairs) filter (where is_waiting), 0) + 1 as attempt,
       bool_or(b.state = 'repairing' and not is_waiting and b.claimed_run <> all(%(building)s)) as is_claimed
from trust.breaks as b
join trust.break_groups as g on g.group_id = b.group_id
cross join lateral (
    select b.state = 'open'
        or b.state = 'repairing' and (b.lease_until <= %(now)s or b.claimed_run = any(%(abandoned)s)) as is_waiting
) as waiting
where b.ended_at is null and b.state in ('open', 'repairing')
group by b.pod
having count(*) filter (where is_waiting) > 0
order by b.pod
"""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The breaks of one pod that wait for a repair."""

    pod: str
    group_ids: list[int]
    """Their incidents, ascending."""
    found_by: str
    """The run that found the newest of these incidents."""
    breaks: int
    newest_break_id: int
    attempt: int
    """Number of the next attempt, from 1, for the break with the most attempts."""
    is_claimed: bool
    """Whether a repair has claimed other breaks of the pod now."""


def waiting_for_repair(
    control_dsn: str, now: datetime, abandoned: Collection[str] = (), building: Collection[str] = ()
) -> list[Waiting]:
    """Return the pods with breaks that are open, or that a dead repair had claimed.

    `abandoned` are runs that are known to be dead; other runs count as dead when their lease is over. `building` are
    runs that hold no pod any more, so that another one may begin.
    """
    with reading(control_dsn) as connection, connection.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(
            WAITING, {"now": now, "abandoned": list(abandoned), "building": list(building)}
        ).fetchall()


def ended_group_ids(control_dsn: str, since: datetime) -> list[int]:
    """Return the ids of incidents that ended after `since`, the oldest first."""
    query = "select group_id from trust.break_groups where ended_at > %s order by group_id"
    with reading(control_dsn) as connection:
        return [row["group_id"] for row in connection.execute(query, (since,)).fetchall()]
