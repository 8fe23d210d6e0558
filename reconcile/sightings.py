"""The table of sightings in the control database: what witnesses saw, and whether a comparison has looked at it.

Belongs here: that table. Does not belong here: seeing (`witness/`), comparing what was seen
(`stack/upkeep/reconciler.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from contracts.sightings import KeptSighting, Sighting, SightingKind

TABLES = """
create schema if not exists reconcile;
create table if not exists reconcile.sightings (
    sighting_id bigint generated always as identity primary key,
    witness text not null,
    kind text not null,
    pod text not null,
    copy text,
    place text not null,
    aggregate_id text,
    what text not null,
    before jsonb,
    after jsonb,
    transaction text not null,
    written_at timestamptz,
    seen_at timestamptz not null default clock_timestamp(),
    compared_at timestamptz,
    group_ids bigint[] not null default '{}'
);
alter table reconcile.sightings drop constraint if exists sightings_kind_check;
alter table reconcile.sightings add constraint sightings_kind_check
    check (kind in ('unannounced', 'declared', 'lost', 'blind'));
alter table reconcile.sightings add column if not exists aggregate_type text;
alter table reconcile.sightings add column if not exists cuts bigint[];
create index if not exists sightings_waiting on reconcile.sightings (sighting_id) where compared_at is null;
create index if not exists sightings_by_time on reconcile.sightings (seen_at);
create index if not exists sightings_of_aggregate on reconcile.sightings (aggregate_id, sighting_id desc);
create unique index if not exists sightings_once on reconcile.sightings
    (witness, kind, pod, transaction, place, coalesce(aggregate_id, ''), md5(what)) where transaction <> '';
comment on table reconcile.sightings is
    'What witnesses saw: writes that nobody announced, and what stores have lost; compared_at: a comparison looked.';
create table if not exists reconcile.witnesses (
    witness text not null,
    pod text not null,
    position text not null default '',
    looked_at timestamptz,
    proven_at timestamptz,
    trouble text not null default '',
    primary key (witness, pod)
);
comment on table reconcile.witnesses is
    'How far each witness has looked, and when it last saw the heartbeat that proves that it sees.';
"""
LOCK = 0x736967687473
"""Advisory lock of the migration, so that two processes do not create the same tables at once."""

KEEP = """
insert into reconcile.sightings (
    witness, kind, pod, copy, place, aggregate_id, aggregate_type, cuts, what, before, after, transaction, written_at
)
values (
    %(witness)s, %(kind)s, %(pod)s, %(copy)s, %(place)s, %(aggregate_id)s, %(aggregate_type)s, %(cuts)s, %(what)s,
    %(before)s, %(after)s, %(transaction)s, %(written_at)s
)
on conflict do nothing
"""
SELECT = """
select sighting_id, witness, kind, pod, copy, place, aggregate_id, aggregate_type, cuts, what, before, after,
       transaction, written_at, seen_at, compared_at, group_ids
from reconcile.sightings
"""
WAITING = f"{SELECT} where compared_at is null order by sighting_id limit %(limit)s"
IS_WAITING = "select exists (select from reconcile.sightings where compared_at is null)"
WAITS = """
select count(*), coalesce(extract(epoch from clock_timestamp() - min(seen_at)), 0)
from reconcile.sightings where compared_at is null
"""
OF_AGGREGATES = f"{SELECT} where aggregate_id = any(%(aggregate_ids)s) order by sighting_id desc limit %(limit)s"
NEWEST = f"{SELECT} order by sighting_id desc limit %(limit)s"
COMPARED = """
update reconcile.sightings set compared_at = %(now)s, group_ids = %(group_ids)s
where sighting_id = any(%(sighting_ids)s)
"""
PRUNE = "delete from reconcile.sightings where compared_at < %(before)s"

Connection = psycopg.Connection[Any]


def migrate(control_dsn: str) -> None:
    """Create the tables in the control database, if they are not there."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(TABLES)


def keep_sightings(connection: Connection, sightings: Sequence[Sighting]) -> int:
    """Store sightings in the caller's transaction, in which the witness also moves its position; return how many.

    One that is stored already, with the same transaction and the same words, is not stored again: a witness that was
    killed before it moved its slot sees the same transactions twice.
    """
    if not sightings:
        return 0
    with connection.cursor() as cursor:
        cursor.executemany(KEEP, [_row(sighting) for sighting in sightings])
        return cursor.rowcount


def is_waiting(connection: Connection) -> bool:
    """Return whether there is a sighting that no comparison has looked at yet."""
    return bool(connection.execute(IS_WAITING).fetchall()[0][0])


def waiting_sightings(control_dsn: str, *, limit: int = 10_000) -> list[KeptSighting]:
    """Return the oldest sightings that no comparison has looked at yet."""
    return _read(control_dsn, WAITING, {"limit": limit})


def longest_wait(control_dsn: str) -> tuple[int, float]:
    """Return how many sightings no comparison has looked at yet, and how long the oldest has waited, in seconds."""
    with psycopg.connect(control_dsn) as connection:
        ((number, seconds),) = connection.execute(WAITS).fetchall()
    return int(number), float(seconds)


def sightings_of(control_dsn: str, aggregate_ids: Collection[str], *, limit: int = 20) -> list[KeptSighting]:
    """Return the newest sightings of some aggregates."""
    return _read(control_dsn, OF_AGGREGATES, {"aggregate_ids": list(aggregate_ids), "limit": limit})


def newest_sightings(control_dsn: str, *, limit: int = 50) -> list[KeptSighting]:
    """Return the newest sightings."""
    return _read(control_dsn, NEWEST, {"limit": limit})


def mark_compared(
    control_dsn: str, sighting_ids: Collection[int], now: datetime, *, group_ids: Collection[int] = ()
) -> None:
    """Record that a comparison which began after these sightings has looked at what they name."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute(
            COMPARED, {"sighting_ids": list(sighting_ids), "now": now, "group_ids": sorted(set(group_ids))}
        )


def prune_sightings(control_dsn: str, before: datetime) -> int:
    """Delete sightings that were compared before a moment; return how many."""
    with psycopg.connect(control_dsn) as connection:
        return connection.execute(PRUNE, {"before": before}).rowcount


def _row(sighting: Sighting) -> dict[str, Any]:
    return {
        **vars(sighting),
        "kind": sighting.kind.value,
        "cuts": None if sighting.cuts is None else list(sighting.cuts),
        "before": None if sighting.before is None else Jsonb(dict(sighting.before)),
        "after": None if sighting.after is None else Jsonb(dict(sighting.after)),
    }


def _read(control_dsn: str, query: str, bound: Mapping[str, Any]) -> list[KeptSighting]:
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        rows = connection.execute(query, bound).fetchall()
    return [_kept(row) for row in rows]


def _kept(row: Mapping[str, Any]) -> KeptSighting:
    cuts = None if row["cuts"] is None else tuple(row["cuts"])
    kind, group_ids = SightingKind(row["kind"]), tuple(row["group_ids"])
    return KeptSighting(**{**row, "kind": kind, "cuts": cuts, "group_ids": group_ids})
