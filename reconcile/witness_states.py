"""How far each witness has looked, and when it last proved that it sees: a row per witness and pod.

Belongs here: that table's rows, and what they say of a witness's health. Does not belong here: the table itself and the
sightings (`reconcile/sightings.py`), looking (`witness/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg.rows import class_row

from reconcile.connections import Connection

PROOF_WITHIN = timedelta(seconds=60)
"""A witness that has not seen a heartbeat of its own for this long does not count as seeing."""

LOOKED = """
insert into reconcile.witnesses (witness, pod, looked_at, proven_at, trouble)
values (
    %(witness)s, %(pod)s, clock_timestamp(), clock_timestamp() - make_interval(secs => %(proven_seconds_ago)s),
    %(trouble)s
)
on conflict (witness, pod) do update set
    looked_at = excluded.looked_at,
    proven_at = greatest(excluded.proven_at, witnesses.proven_at),
    trouble = excluded.trouble
"""
FAILED = """
insert into reconcile.witnesses (witness, pod, trouble) values (%(witness)s, %(pod)s, %(trouble)s)
on conflict (witness, pod) do update set trouble = excluded.trouble
"""
MOVED = """
insert into reconcile.witnesses (witness, pod, position) values (%(witness)s, %(pod)s, %(position)s)
on conflict (witness, pod) do update set position = excluded.position
"""
POSITION = "select position from reconcile.witnesses where witness = %(witness)s and pod = %(pod)s"
STATES = """
select witness, pod, position, looked_at, proven_at, trouble, clock_timestamp() as asked_at
from reconcile.witnesses
order by witness, pod
"""


@dataclass(frozen=True, kw_only=True)
class WitnessState:
    """One witness of one pod, as the control database knows it."""

    witness: str
    pod: str
    position: str
    looked_at: datetime | None
    proven_at: datetime | None
    trouble: str
    asked_at: datetime
    """When this was read, by the control database's clock."""

    @property
    def complaint(self) -> str:
        """Why this witness does not count as seeing; empty when it has proven lately that it sees."""
        if self.trouble:
            return self.trouble
        if self.proven_at is None:
            return "It has never seen its heartbeat."
        if self.asked_at - self.proven_at > PROOF_WITHIN:
            return f"It has not seen its heartbeat since {self.proven_at:%Y-%m-%d %H:%M:%S} UTC."
        return ""


def report_look(control: Connection, witness: str, pod: str, *, proven_seconds_ago: float | None, trouble: str) -> None:
    """Record that a witness has looked, and how long ago the heartbeat was written that it saw, if it saw one."""
    bound = {"witness": witness, "pod": pod, "proven_seconds_ago": proven_seconds_ago, "trouble": trouble}
    control.execute(LOOKED, bound)


def report_failure(control: Connection, witness: str, pod: str, trouble: str) -> None:
    """Record that a witness could not look. When it last looked, and last proved that it sees, stays."""
    control.execute(FAILED, {"witness": witness, "pod": pod, "trouble": trouble})


def keep_position(connection: Connection, witness: str, pod: str, position: str) -> None:
    """Move a witness's position, in the transaction that stores what it saw before that position."""
    connection.execute(MOVED, {"witness": witness, "pod": pod, "position": position})


def kept_position(connection: Connection, witness: str, pod: str) -> str:
    """Return a witness's position; empty when it has none."""
    row = connection.execute(POSITION, {"witness": witness, "pod": pod}).fetchone()
    return str(row[0]) if row else ""


def witness_states(control_dsn: str) -> list[WitnessState]:
    """Return the state of every witness that has ever reported."""
    with psycopg.connect(control_dsn) as connection:
        return connection.cursor(row_factory=class_row(WitnessState)).execute(STATES).fetchall()
