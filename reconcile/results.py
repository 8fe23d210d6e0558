"""The table of results in the control database: the result of every comparison, and the newest per pair and pod.

Belongs here: that table. Does not belong here: breaks, i.e. what is done about a difference (`repair/ledger/`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from contracts.verdicts import PairResult, Verdict

TABLES = """
create schema if not exists reconcile;
create table if not exists reconcile.results (
    result_id bigint generated always as identity primary key,
    pair text not null,
    pod text not null,
    verdict text not null check (verdict in ('consistent', 'inconsistent', 'late', 'unknown')),
    cut bigint,
    compared bigint not null,
    missing bigint not null,
    extra bigint not null,
    different bigint not null,
    duplicates bigint not null,
    checked_at timestamptz not null,
    seconds double precision not null,
    reason text not null,
    result jsonb not null
);
create index if not exists results_newest on reconcile.results (pair, pod, checked_at desc, result_id desc);
alter table reconcile.results add column if not exists is_whole boolean not null default true;
alter table reconcile.results add column if not exists moment bigint;
create index if not exists results_by_moment on reconcile.results
    (pair, pod, moment desc nulls last, checked_at desc, result_id desc);
alter table reconcile.results add column if not exists has_changes boolean not null default true;
create index if not exists results_whole on reconcile.results (pod, cut) where is_whole;
comment on table reconcile.results is 'One row per comparison of a pair in a pod; result holds levels and samples.';
"""
LOCK = 0x7265636F6E63
"""Advisory lock of the migration, so that two processes do not create the same table at once."""

INSERT = """
insert into reconcile.results (
    pair, pod, verdict, cut, compared, missing, extra, different, duplicates, checked_at, seconds, reason, is_whole,
    has_changes, moment, result
)
values (
    %(pair)s, %(pod)s, %(verdict)s, %(cut)s, %(compared)s, %(missing)s, %(extra)s, %(different)s, %(duplicates)s,
    %(checked_at)s, %(seconds)s, %(reason)s, %(is_whole)s,
    %(has_changes)s,
    -- One that was given no number stands beside the newest, and time decides between them.
    coalesce(%(moment)s, (
        select max(moment) from reconcile.results where pair = %(pair)s and pod = %(pod)s
    )),
    %(result)s
)
"""
NEWEST_FIRST = "moment desc nulls last, checked_at desc, result_id desc"
"""Order of results by what they have seen: a slow comparison is older than a fast one that began after it."""

# Each pair and pod is looked up in the index, and so is its newest row. `distinct on` would read every result that is
# kept, and a reconciler makes some thousands in an hour.
NEWEST = f"""
with recursive known as (
    (select pair, pod from reconcile.results order by pair, pod limit 1)
    union all
    select following.pair, following.pod from known cross join lateral (
        select pair, pod from reconcile.results where (pair, pod) > (known.pair, known.pod) order by pair, pod limit 1
    ) as following
),
newest as (
    select known.pair, known.pod, one.verdict, one.result from known cross join lateral (
        select verdict, result from reconcile.results as one where one.pair = known.pair and one.pod = known.pod
        order by {NEWEST_FIRST} limit 1
    ) as one
)"""
LATEST = f"{NEWEST} select result from newest order by pair, pod"
UNKNOWN_SINCE = f"""
{NEWEST}
select newest.pair, newest.pod, min(tried.checked_at) as since
from newest
join reconcile.results as tried using (pair, pod)
where newest.verdict = 'unknown' and tried.checked_at > coalesce((
    select max(looked.checked_at) from reconcile.results as looked
    where looked.pair = newest.pair and looked.pod = newest.pod and looked.verdict <> 'unknown'
), '-infinity')
group by newest.pair, newest.pod
"""
HISTORY = f"""
select result from reconcile.results where pair = %(pair)s and pod = %(pod)s order by {NEWEST_FIRST} limit %(limit)s
"""
COMPARED = """
    pod = %(pod)s and pair = any(%(pairs)s) and (verdict in ('consistent', 'inconsistent') or compared > 0)
    and (is_whole or has_changes and %(is_partial)s)
    and (cut <= %(epoch_base)s or checked_at >= %(epoch_opened_at)s or %(epoch_opened_at)s::timestamptz is null)
"""
NEWEST_COMPLETE_CUT = f"""
select cut from reconcile.results where {COMPARED} and cut >= %(since)s
group by cut having count(distinct pair) = %(number)s order by cut desc limit 1
"""
AT_CUT = f"""
select distinct on (pair) result from reconcile.results where {COMPARED} and cut = %(cut)s
order by pair, {NEWEST_FIRST}
"""
ANSWERED = f"""
select distinct on (pair) result from reconcile.results where {COMPARED} and cut >= %(since)s
order by pair, checked_at desc, result_id desc
"""
MEMORY = """
select max((result->>'peak_memory_mb')::float8) as peak_mb,
       coalesce(array_agg(distinct pair order by pair) filter (where (result->>'is_memory_short')::boolean), '{}')
       as short
from reconcile.results where checked_at >= %(since)s
"""
PRUNE = """
delete from reconcile.results as old
where (checked_at < %(before)s or (checked_at < %(before_parts)s and verdict = 'consistent' and not is_whole))
and exists (
    select from reconcile.results as newer
    where newer.pair = old.pair and newer.pod = old.pod
      and (coalesce(newer.moment, 0), newer.checked_at, newer.result_id)
          > (coalesce(old.moment, 0), old.checked_at, old.result_id)
)
"""
COLUMNS = ("pair", "pod", "cut", "compared", "missing", "extra", "different", "duplicates", "seconds", "reason")


def migrate(control_dsn: str) -> None:
    """Create the table in the control database, if it is not there."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(TABLES)


def save_results(control_dsn: str, results: Sequence[PairResult]) -> None:
    """Store results in one transaction."""
    with psycopg.connect(control_dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(INSERT, [_row(result) for result in results])


def latest_results(control_dsn: str) -> list[PairResult]:
    """Return the newest result of every pair in every pod, by pair and pod; empty before the first comparison."""
    return _read(control_dsn, LATEST, {})


def unknown_since(control_dsn: str) -> dict[tuple[str, str], datetime]:
    """Return (pair, pod) -> the time since which every comparison was unknown, if the newest one was.

    If that time is long ago, the store is really unreachable; a short interruption would have ended.
    """
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        rows = connection.execute(UNKNOWN_SINCE).fetchall()
    return {(row["pair"], row["pod"]): row["since"] for row in rows}


@dataclass(frozen=True, kw_only=True)
class ComparisonMemory:
    """The memory that comparisons took since a time."""

    peak_mb: float | None
    """The highest peak memory of their processes, in megabytes; None: there was no comparison."""
    short: tuple[str, ...]
    """Pairs that fitted in their memory limit only with one thread."""


def memory_since(control_dsn: str, since: datetime) -> ComparisonMemory:
    """Return the memory that comparisons took since `since`."""
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        row = connection.execute(MEMORY, {"since": since}).fetchone()
    assert row is not None
    return ComparisonMemory(peak_mb=row["peak_mb"], short=tuple(row["short"]))


def result_history(control_dsn: str, pair: str, pod: str, *, limit: int = 100) -> list[PairResult]:
    """Return the last results of one pair in one pod, the newest first."""
    return _read(control_dsn, HISTORY, {"pair": pair, "pod": pod, "limit": limit})


@dataclass(frozen=True, kw_only=True)
class EpochStart:
    """The begin of a pod's present epoch. A result with a cut above `base_cut` that is older than `opened_at` is
    obsolete, because its cut was retracted.
    """

    base_cut: int
    opened_at: datetime


def complete_results(
    control_dsn: str,
    pod: str,
    pairs: Collection[str],
    *,
    since_cut: int = 0,
    epoch: EpochStart | None = None,
    is_partial: bool = False,
) -> list[PairResult]:
    """Return one result of each of `pairs` in a pod, all compared at one cut: `since_cut` or a later one.

    The cut is `since_cut` if all results there are consistent; otherwise it is the newest cut at which all pairs were
    compared. If there is none, the list is empty. Results without a comparison (late or unknown) do not count.
    Incremental results count only if `is_partial`.
    """
    bound = {
        "pod": pod,
        "pairs": list(pairs),
        "number": len(pairs),
        "since": since_cut,
        "epoch_base": epoch.base_cut if epoch else None,
        "epoch_opened_at": epoch.opened_at if epoch else None,
        "is_partial": is_partial,
    }
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        exact = [result_of(row["result"]) for row in connection.execute(AT_CUT, {**bound, "cut": since_cut})]
        if len(exact) == len(pairs) and all(result.verdict is Verdict.CONSISTENT for result in exact):
            return exact
        newest = connection.execute(NEWEST_COMPLETE_CUT, bound).fetchone()
        if newest is None:
            return []
        return [result_of(row["result"]) for row in connection.execute(AT_CUT, {**bound, "cut": newest["cut"]})]


def answered_since(
    control_dsn: str, pod: str, pairs: Collection[str], *, since_cut: int, epoch: EpochStart | None = None
) -> list[PairResult]:
    """Return the newest result of each of `pairs` in a pod at `since_cut` or later, complete or incremental.

    Results without a comparison (late or unknown), or of named keys alone, do not count; a pair without a result that
    counts is left out.
    """
    bound = {
        "pod": pod,
        "pairs": list(pairs),
        "since": since_cut,
        "epoch_base": epoch.base_cut if epoch else None,
        "epoch_opened_at": epoch.opened_at if epoch else None,
        "is_partial": True,
    }
    return _read(control_dsn, ANSWERED, bound)


def prune_results(control_dsn: str, before: datetime, *, before_parts: datetime | None = None) -> int:
    """Delete results older than `before`, but never the newest of a pair in a pod; return the number of rows.

    `before_parts`: the same for results of a part of the keys that found no difference. A reconciler makes thousands of
    them a day, and what they have compared is in the coverage.
    """
    bound = {"before": before, "before_parts": before_parts or before}
    with psycopg.connect(control_dsn) as connection:
        return connection.execute(PRUNE, bound).rowcount


def _row(result: PairResult) -> dict[str, Any]:
    row = {name: getattr(result, name) for name in COLUMNS}
    answer = result.as_json()
    return {
        **row,
        "is_whole": answer.get("is_whole", True),
        "has_changes": result.scope is None or result.scope.has_changes,
        "verdict": result.verdict.value,
        "checked_at": result.checked_at,
        "moment": result.moment,
        "result": Jsonb(answer),
    }


def _read(control_dsn: str, query: str, bound: dict[str, Any]) -> list[PairResult]:
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        rows = connection.execute(query, bound).fetchall()
    return [result_of(row["result"]) for row in rows]


def result_of(value: dict[str, Any]) -> PairResult:
    """Return the result whose `PairResult.as_json` is `value`."""
    known = {field.name for field in fields(PairResult)}
    return msgspec.convert({name: item for name, item in value.items() if name in known}, PairResult)
