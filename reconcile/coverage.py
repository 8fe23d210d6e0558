"""The table of coverage in the control database: when, and at which cut, every range of keys was compared.

Belongs here: that table. Does not belong here: what is compared next (`reconcile/sweep.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from contracts.scope import KeyRange
from contracts.verdicts import PairResult
from reconcile.sweep import Coverage, Part, covered

TABLES = """
create schema if not exists reconcile;
create table if not exists reconcile.followed (
    pair text not null,
    pod text not null,
    cut bigint not null,
    primary key (pair, pod)
);
create table if not exists reconcile.coverage (
    pair text not null,
    pod text not null,
    above text collate "C",
    through text collate "C",
    cut bigint not null,
    compared_at timestamptz not null,
    unique nulls not distinct (pair, pod, above)
);
comment on table reconcile.followed is 'The cut up to which whatever changed was compared, per pair and pod.';
comment on table reconcile.coverage is
    'The newest comparison of every range of keys (above, through]; all ranges of a pair in a pod hold every key.';
"""
LOCK = 0x636F76657261
"""Advisory lock of every writer, because a writer reads the ranges and writes them again."""

READ = """
select c.pair, c.pod, f.cut as followed_cut, c.above, c.through, c.cut, c.compared_at
from reconcile.coverage as c join reconcile.followed as f on f.pair = c.pair and f.pod = c.pod
where %(pairs)s::text[] is null or c.pair = any(%(pairs)s)
order by c.pair, c.pod, c.above nulls first
"""
FORGET = """
delete from reconcile.coverage where pair = %(pair)s and pod = %(pod)s and above is not distinct from %(above)s
"""
KEEP = """
insert into reconcile.coverage (pair, pod, above, through, cut, compared_at)
values (%(pair)s, %(pod)s, %(above)s, %(through)s, %(cut)s, %(compared_at)s)
"""
FOLLOW = """
insert into reconcile.followed (pair, pod, cut) values (%(pair)s, %(pod)s, %(cut)s)
on conflict (pair, pod) do update set cut = excluded.cut
"""


def migrate(control_dsn: str) -> None:
    """Create the table in the control database, if it is not there."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(TABLES)


def read_coverage(control_dsn: str, pairs: Collection[str] | None = None) -> dict[tuple[str, str], Coverage]:
    """Return (pair, pod) -> coverage, for those of these pairs (None: all) of which everything was compared once."""
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        return _read(connection, pairs)


def compared_since(control_dsn: str, pod: str, pairs: Collection[str], cut: int) -> datetime | None:
    """Return the time since which every key of these pairs in a pod was compared at least once.

    None when a change up to `cut` was not compared yet, or when a key was never compared.
    """
    known = read_coverage(control_dsn, pairs)
    found = [known.get((pair, pod)) for pair in pairs]
    if not found or any(one is None or one.cut < cut for one in found):
        return None
    return min(one.oldest.compared_at for one in found if one is not None)


def keep_coverage(control_dsn: str, results: Sequence[PairResult]) -> None:
    """Record which keys these results cover. Call it only after the ledger of breaks has recorded the results."""
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        known = _read(connection, {result.pair for result in results})
        for result in results:
            before = known.get((result.pair, result.pod))
            after = covered(before, result) if result.is_of_keys else None
            if after is not None and after != before:
                _write(connection, before, after)
                known[result.pair, result.pod] = after


def _read(
    connection: psycopg.Connection[dict[str, Any]], pairs: Collection[str] | None
) -> dict[tuple[str, str], Coverage]:
    parts: dict[tuple[str, str], list[Part]] = {}
    followed: dict[tuple[str, str], int] = {}
    for row in connection.execute(READ, {"pairs": None if pairs is None else list(pairs)}):
        key = (row["pair"], row["pod"])
        followed[key] = row["followed_cut"]
        keys = KeyRange(above=row["above"], through=row["through"])
        parts.setdefault(key, []).append(Part(keys=keys, cut=row["cut"], compared_at=row["compared_at"]))
    return {
        key: Coverage(pair=key[0], pod=key[1], cut=followed[key], parts=tuple(found)) for key, found in parts.items()
    }


def _write(connection: psycopg.Connection[dict[str, Any]], before: Coverage | None, after: Coverage) -> None:
    """Write the parts that are others now; a round changes some of hundreds."""
    at = {"pair": after.pair, "pod": after.pod}
    parts = set(before.parts) if before else set()
    with connection.cursor() as cursor:
        cursor.execute(FOLLOW, {**at, "cut": after.cut})
        cursor.executemany(FORGET, [{**at, "above": part.keys.above} for part in parts - set(after.parts)])
        cursor.executemany(
            KEEP,
            [
                {**at, **vars(part.keys), "cut": part.cut, "compared_at": part.compared_at}
                for part in after.parts
                if part not in parts
            ],
        )
