"""Builds of the warehouse: the cuts of each build, the build lock, and which builds are complete.

Belongs here: the records in schema `lake.builds` and the lock. Does not belong here: how a build is run
(`derived/warehouse.py`), what it computes (dbt_project/), who reads its results (`derived/reports.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString

import duckdb
import psycopg

from contracts.clock import Clock, utc_now
from contracts.errors import WarehouseError
from contracts.events import STATE_TYPES
from contracts.ids import NewId, uuid7
from contracts.memory import peak_memory_mb
from contracts.settings import Settings
from derived.build_peaks import note_build_memory
from derived.defective import Omission
from derived.lake_connection import LAKE, lake_place, open_lake, transaction
from derived.lake_files import lost_tables
from derived.lake_reads import cut_vector
from derived.lake_schema import CUTS, PARKED
from derived.leaving_out import NO_ROWS as NOTHING_LEFT_OUT
from derived.leaving_out import TABLES as LEFT_OUT_TABLES
from derived.leaving_out import leave_out, take_back
from derived.retired import retired_sentences
from derived.warehouse_shape import grow, is_outgrown

Connection = duckdb.DuckDBPyConnection

SCHEMA = f"{LAKE}.builds"
CUT_VECTORS = f"{SCHEMA}.cut_vectors"
COMPLETIONS = f"{SCHEMA}.completions"

TABLES = (
    f"create schema if not exists {SCHEMA}",
    # A build adds the events with since_cut < cut <= cut; the next one starts after this one's resume_cut.
    f"""create table if not exists {CUT_VECTORS} (
        build_id varchar not null, pod varchar not null, since_cut bigint not null, cut bigint not null,
        resume_cut bigint not null, data_at timestamptz, recorded_at timestamptz not null, build_number bigint)""",
    f"""create table if not exists {COMPLETIONS} (
        build_id varchar not null, completed_at timestamptz not null, schema_versions varchar)""",
    *LEFT_OUT_TABLES,
    *NOTHING_LEFT_OUT,
    # The number orders builds independently of clocks. Older lakes only had ids, which begin with the time.
    f"alter table {CUT_VECTORS} add column if not exists build_number bigint",
    f"""update {CUT_VECTORS} as vectors set build_number = (
        select count(distinct build_id) from {CUT_VECTORS} as earlier where earlier.build_id <= vectors.build_id)
        where build_number is null""",
    # Each build writes only a few rows: they stay in the catalog until compaction writes them to a file.
    f"call {LAKE}.set_option('data_inlining_row_limit', 100, schema => 'builds')",
    # The last one: with it, all is there.
    f"alter table {COMPLETIONS} add column if not exists schema_versions varchar",
)

VERSIONS_OF_NEWEST = f"""
select schema_versions from {COMPLETIONS} semi join (
    from {CUT_VECTORS} where build_number = (
        select max(build_number) from {CUT_VECTORS} semi join {COMPLETIONS} using (build_id))
) using (build_id)"""
"""Schema versions with which the newest complete build read events: aggregate type -> version, as JSON; null: all 1."""

WRITER = "build"
"""Who writes these tables, in their snapshots."""
LOCK_KEY = "tieout warehouse build"
WRITERS_KEY = "tieout warehouse writers"


@dataclass(frozen=True, kw_only=True)
class PodCut:
    """The cuts of a build in one pod."""

    since_cut: int
    """The build adds the events after this cut: where the last complete build ended."""
    cut: int
    data_at: datetime | None
    """When the cut was registered in its pod; None if nothing of the pod has arrived."""


@dataclass(kw_only=True)
class Build:
    """A running build whose cut vector is recorded. The code that runs it sets `is_complete` if there was no fault."""

    build_id: str
    pods: Mapping[str, PodCut]
    connection: Connection = field(repr=False)
    """Connection to the lake, for queries about the build; closed after the build."""
    is_outgrown: bool = False
    """The stored tables lack a field that events have now, or a file of them is lost: everything must be recomputed."""
    is_again: bool = False
    """Whether it stands at the cuts of the newest complete build, which no other build has followed: then a table that
    it does not build is as that build left it.
    """
    is_complete: bool = False
    left_out: Sequence[Omission] = ()
    """Aggregates that the build leaves out because of a defect."""
    warnings: Sequence[str] = ()
    """What people should know about the events that it adds, one sentence each."""

    @property
    def cuts(self) -> dict[str, int]:
        """The cut vector: pod -> cut."""
        return {pod: entry.cut for pod, entry in self.pods.items()}


@dataclass(frozen=True, kw_only=True)
class CompleteBuild:
    """A build of everything that passed all its tests; reports read the newest one."""

    build_id: str
    cuts: Mapping[str, int]
    data_at: Mapping[str, datetime | None]


@contextmanager
def building(
    settings: Settings,
    *,
    cuts: Mapping[str, int] | None = None,
    since: Mapping[str, int] | None = None,
    is_again: bool = False,
    lock_timeout_seconds: int = 600,
) -> Iterator[Build]:
    """Hold the build lock, record the cut vector, yield the build, and record its completion if it was complete.

    `cuts` (pod -> cut) is the vector to build at, by default the highest that is complete in the lake. `since` (pod ->
    cut) is where the build starts, by default where the last complete build ended; a lower cut recomputes from there.
    `is_again`: build at the cuts of the newest complete build, if no other has begun since; `Build.is_again` says so.
    Raises WarehouseError if another build does not end in time.
    """
    with (
        build_lock(settings, lock_timeout_seconds),
        open_lake(settings) as connection,
    ):
        migrate_builds(connection)
        grow(connection)
        outgrown = (
            is_outgrown(connection) or is_of_other_versions(connection) or bool(lost_tables(lake_place(settings)))
        )
        if outgrown:
            since = {pod.pod: 0 for pod in settings.pods}
        stands = _stands(connection) if is_again and not outgrown else None
        build = record_cut_vector(connection, cuts=cuts if stands is None else stands, since=since)
        build.is_outgrown, build.is_again = outgrown, stands is not None
        # A build that comes again leaves out what the one before it has left out.
        if not build.is_again:
            build.left_out = _leave_out(connection, build)
            windows = {pod: (entry.since_cut, entry.cut) for pod, entry in build.pods.items()}
            build.warnings = retired_sentences(connection, windows)
        try:
            yield build
        finally:
            note_build_memory(settings, peak_memory_mb(with_children=True), utc_now())
        if build.is_complete:
            record_completion(connection, build.build_id)


def _leave_out(connection: Connection, build: Build) -> list[Omission]:
    latest = latest_build(connection)
    shown = {} if latest is None else latest.cuts
    found: list[Omission] = []
    judged: dict[str, tuple[int, int]] = {}
    for pod, entry in build.pods.items():
        found += leave_out(
            connection,
            pod,
            entry.since_cut,
            entry.cut,
            shown_cut=shown.get(pod, 0),
            build_id=build.build_id,
            others=judged,
            elsewhere={name: (other.since_cut, other.cut) for name, other in build.pods.items() if name != pod},
        )
        judged[pod] = (entry.since_cut, entry.cut)
    return found


def _stands(connection: Connection) -> Mapping[str, int] | None:
    """Return the cuts of the newest complete build; None when there is none, or another build has begun since."""
    latest = latest_build(connection)
    newest = connection.execute(f"select arg_max(build_id, build_number) from {CUT_VECTORS}").fetchall()
    return latest.cuts if latest is not None and newest == [(latest.build_id,)] else None


def migrate_builds(connection: Connection) -> None:
    """Create the tables of the builds, if they do not exist."""
    if not _has_tables(connection):
        for statement in TABLES:
            with transaction(connection, WRITER):
                connection.execute(statement)


def record_cut_vector(
    connection: Connection,
    *,
    cuts: Mapping[str, int] | None = None,
    since: Mapping[str, int] | None = None,
    clock: Clock = utc_now,
    new_id: NewId = uuid7,
) -> Build:
    """Write a build's cut vector in one transaction, and return the build; the caller holds the build lock."""
    vector = dict(cuts) if cuts is not None else cut_vector(connection)
    start = _resume_cuts(connection) | dict(since or {})
    build_id, build_number, recorded_at = str(new_id()), _next_build_number(connection), clock()
    pods: dict[str, PodCut] = {}
    with transaction(connection, WRITER):
        for pod, cut in sorted(vector.items()):
            entry = PodCut(since_cut=min(start.get(pod, 0), cut), cut=cut, data_at=_data_at(connection, pod, cut))
            resume_cut = min(cut, _first_parked_cut(connection, pod) - 1)
            connection.execute(
                f"insert into {CUT_VECTORS} by name select $build_id as build_id, $pod as pod, "
                "$since_cut as since_cut, $cut as cut, $resume_cut as resume_cut, $data_at as data_at, "
                "$recorded_at as recorded_at, $build_number as build_number",
                {
                    "build_id": build_id,
                    "pod": pod,
                    "since_cut": entry.since_cut,
                    "cut": cut,
                    "resume_cut": resume_cut,
                    "data_at": entry.data_at,
                    "recorded_at": recorded_at,
                    "build_number": build_number,
                },
            )
            pods[pod] = entry
    return Build(build_id=build_id, pods=pods, connection=connection)


def stand_back(
    connection: Connection,
    pod: str,
    cut: int,
    *,
    data_at: datetime | None,
    clock: Clock = utc_now,
    new_id: NewId = uuid7,
) -> None:
    """Set the newest complete build back to at most `cut` of `pod`; the next build starts there.

    Used when events are retracted. Marts are read as of cuts, so from now on they show the state at `cut`; the earlier
    build keeps its record. Runs in the caller's transaction; the caller holds the build lock.
    """
    if not _has_tables(connection):
        return
    newest = f"build_number = (select max(build_number) from {CUT_VECTORS} semi join {COMPLETIONS} using (build_id))"
    beyond = f"select 1 from {CUT_VECTORS} where {newest} and pod = ? and greatest(cut, resume_cut) > ?"
    if not connection.execute(beyond, [pod, cut]).fetchall():
        return
    take_back(connection, pod, cut)
    build_id, now = str(new_id()), clock()
    connection.execute(
        f"""insert into {CUT_VECTORS} by name
            select $build_id as build_id, pod, $build_number as build_number, $now as recorded_at,
                   if(pod = $pod, least(cut, $cut), cut) as since_cut, if(pod = $pod, least(cut, $cut), cut) as cut,
                   if(pod = $pod, least(resume_cut, $cut), resume_cut) as resume_cut,
                   if(pod = $pod and cut > $cut, cast($data_at as timestamptz), data_at) as data_at
            from {CUT_VECTORS} where {newest}""",
        {
            "build_id": build_id,
            "build_number": _next_build_number(connection),
            "now": now,
            "pod": pod,
            "cut": cut,
            "data_at": data_at,
        },
    )
    connection.execute(
        f"insert into {COMPLETIONS} values (?, ?, ({VERSIONS_OF_NEWEST}))",
        [build_id, now],
    )


def record_completion(connection: Connection, build_id: str, *, clock: Clock = utc_now) -> None:
    """Record that the build passed all its tests: reports read it from now on, and the next build starts there."""
    versions = json.dumps({name: state.SCHEMA_VERSION for name, state in STATE_TYPES.items()})
    with transaction(connection, WRITER):
        connection.execute(f"insert into {COMPLETIONS} values (?, ?, ?)", [build_id, clock(), versions])


def is_of_other_versions(connection: Connection) -> bool:
    """Return whether the newest complete build read events with other schema versions than the current ones.

    Stored columns may then mean something else under the same names, so everything must be recomputed.
    """
    rows = connection.execute(VERSIONS_OF_NEWEST).fetchall()
    read: dict[str, int] = json.loads(rows[0][0]) if rows and rows[0][0] else {}
    return bool(rows) and any(read.get(name, 1) != state.SCHEMA_VERSION for name, state in STATE_TYPES.items())


def latest_build(connection: Connection) -> CompleteBuild | None:
    """Return the newest complete build; None if there is none."""
    if not _has_tables(connection):
        return None
    rows = connection.execute(
        f"""select vectors.build_id, vectors.pod, vectors.cut, vectors.data_at
            from {CUT_VECTORS} as vectors
            where vectors.build_number = (
                select max(build_number) from {CUT_VECTORS} semi join {COMPLETIONS} using (build_id)
            )
            order by vectors.pod"""
    ).fetchall()
    if not rows:
        return None
    return CompleteBuild(
        build_id=str(rows[0][0]),
        cuts={str(row[1]): int(row[2]) for row in rows},
        data_at={str(row[1]): row[3] for row in rows},
    )


def _resume_cuts(connection: Connection) -> dict[str, int]:
    rows = connection.execute(
        f"""select pod, resume_cut from {CUT_VECTORS}
            where build_number = (
                select max(build_number) from {CUT_VECTORS} semi join {COMPLETIONS} using (build_id))"""
    ).fetchall()
    return {str(pod): int(cut) for pod, cut in rows}


def _next_build_number(connection: Connection) -> int:
    # The caller holds the build lock, so no other build can take the same number.
    rows = connection.execute(f"select coalesce(max(build_number), 0) + 1 from {CUT_VECTORS}").fetchall()
    return int(rows[0][0])


def _data_at(connection: Connection, pod: str, cut: int) -> datetime | None:
    rows = connection.execute(f"select max(data_at) from {CUTS} where pod = ? and cut <= ?", [pod, cut]).fetchall()
    moment: datetime | None = rows[0][0]
    return moment


def _first_parked_cut(connection: Connection, pod: str) -> int:
    # A parked event reaches the lake later, under its old cut. Therefore the next builds start again before that cut.
    rows = connection.execute(f"select min(cut) from {PARKED} where pod = ?", [pod]).fetchall()
    return int(rows[0][0]) if rows[0][0] is not None else 2**62


def _has_tables(connection: Connection) -> bool:
    # These columns were added last: if they exist, everything exists.
    found = connection.execute(
        "select count(*) from duckdb_columns() where database_name = ? and schema_name = 'builds' "
        "and (table_name, column_name) in (('cut_vectors', 'build_number'), ('left_out_events', 'is_bad'), "
        "('completions', 'schema_versions'))",
        [LAKE],
    ).fetchall()
    return int(found[0][0]) == 3


@contextmanager
def build_lock(settings: Settings, timeout_seconds: int = 600) -> Iterator[None]:
    """Hold the build lock, so that no other build runs. WarehouseError if another build does not end in time.

    Also waits for the writers' lock, because a process that a killed builder left behind may still write.
    """
    # A session's advisory lock: it holds across workers, Dagster's runs and commands, and ends with the session.
    with psycopg.connect(settings.control_dsn, autocommit=True) as connection:
        _locked(connection, "select pg_advisory_lock(hashtext(%s))", LOCK_KEY, timeout_seconds)
        with writers_lock(settings.catalog_dsn, timeout_seconds, is_first=True):
            yield


@contextmanager
def writers_lock(catalog_dsn: str, timeout_seconds: int = 600, *, is_first: bool = False) -> Iterator[None]:
    """Hold the lock of processes that write to the warehouse: a builder, and the dbt process that works for it.

    With `is_first`, first wait until no other session holds it. The lock is in the lake's catalog, where the writes go:
    if the connection with the build lock is lost while dbt still writes, this lock keeps other builders out.
    """
    with psycopg.connect(catalog_dsn, autocommit=True) as connection:
        if is_first:
            _locked(connection, "select pg_advisory_lock(hashtext(%s))", WRITERS_KEY, timeout_seconds)
        _locked(connection, "select pg_advisory_lock_shared(hashtext(%s))", WRITERS_KEY, timeout_seconds)
        if is_first:
            connection.execute("select pg_advisory_unlock(hashtext(%s))", (WRITERS_KEY,))
        yield


def _locked(
    connection: psycopg.Connection[tuple[Any, ...]], statement: LiteralString, key: str, timeout_seconds: int
) -> None:
    connection.execute("select set_config('lock_timeout', %s, false)", (f"{timeout_seconds}s",))
    try:
        connection.execute(statement, (key,))
    except psycopg.errors.LockNotAvailable:
        raise WarehouseError(
            f"Another warehouse build has run for more than {timeout_seconds} seconds; wait for it or stop it."
        ) from None
