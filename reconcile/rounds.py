"""The table of the reconciler's rounds in the control database: what each kind of round took when it last ran.

Belongs here: that table. Does not belong here: running rounds (`stack/upkeep/reconciler.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg.rows import dict_row

TABLES = """
create schema if not exists reconcile;
create table if not exists reconcile.rounds (
    kind text primary key,
    began_at timestamptz not null,
    ended_at timestamptz not null,
    cpu_seconds double precision not null,
    comparisons integer not null,
    swept_share double precision not null,
    trouble text not null
);
comment on table reconcile.rounds is 'The newest round of each kind of the reconciler, and what it took.';
"""
LOCK = 0x726F756E6473
"""Advisory lock of the migration, so that two processes do not create the same table at once."""

KEEP = """
insert into reconcile.rounds (kind, began_at, ended_at, cpu_seconds, comparisons, swept_share, trouble)
values (%(kind)s, %(began_at)s, %(ended_at)s, %(cpu_seconds)s, %(comparisons)s, %(swept_share)s, %(trouble)s)
on conflict (kind) do update set
    began_at = excluded.began_at, ended_at = excluded.ended_at, cpu_seconds = excluded.cpu_seconds,
    comparisons = excluded.comparisons, swept_share = excluded.swept_share, trouble = excluded.trouble
"""
READ = "select kind, began_at, ended_at, cpu_seconds, comparisons, swept_share, trouble from reconcile.rounds"


RESTING = timedelta(minutes=15)
"""A reconciler whose newest round ended longer ago than this does not count as running."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: when it ran, and what it took."""

    kind: str
    began_at: datetime
    ended_at: datetime
    cpu_seconds: float
    """Processor time of the reconciler and of the builds that it started; the servers' own is not in it."""
    comparisons: int
    swept_share: float
    """The share of all keys that it swept besides what had changed, from 0 to 1."""
    trouble: str
    """Why the round could not compare; empty when it could."""


def migrate(control_dsn: str) -> None:
    """Create the table in the control database, if it is not there."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(TABLES)


def keep_round(control_dsn: str, found: Round) -> None:
    """Store a round as the newest of its kind."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute(KEEP, vars(found))


def newest_rounds(control_dsn: str) -> dict[str, Round]:
    """Return kind -> its newest round; empty when no reconciler has run."""
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        return {row["kind"]: Round(**row) for row in connection.execute(READ)}


def is_reconciling(control_dsn: str, now: datetime) -> bool:
    """Return whether a reconciler compares all the time: then the schedules need not compare what changed.

    A round that only looked at sightings does not count, because it sweeps nothing.
    """
    rounds = newest_rounds(control_dsn).values()
    return any(now - one.ended_at < RESTING and not one.trouble for one in rounds if one.swept_share)
