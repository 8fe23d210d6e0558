"""The lake's tables besides the warehouse: events, fences, cuts, epochs, parked and retracted events.

Belongs here: the tables of schema `lake.raw`. Does not belong here: who writes them (`derived/lake.py`), reads them
(`derived/lake_reads.py`) or merges their files (`derived/lake_compaction.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import duckdb

from contracts.errors import SettingsError
from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.object_store import is_object_path
from derived.lake_connection import DEFAULT_BOUNDS, LAKE, Bounds, connect_lake, normal_data_path, transaction

SCHEMA = f"{LAKE}.raw"
EVENTS = f"{SCHEMA}.events"
CUTS = f"{SCHEMA}.cuts"
PARKED = f"{SCHEMA}.parked"
EPOCHS = f"{SCHEMA}.epochs"
RETRACTED_EVENTS = f"{SCHEMA}.retracted_events"
RETRACTED_CUTS = f"{SCHEMA}.retracted_cuts"

# Same columns as ENVELOPE_COLUMNS, without those that were added later.
EVENT_COLUMNS = """
        pod varchar not null, epoch varchar not null, cut bigint not null, "partition" integer not null,
        "position" bigint not null, event_id varchar not null, merchant_id varchar not null,
        aggregate_type varchar not null, aggregate_id varchar not null, aggregate_version bigint not null,
        event_type varchar not null, schema_version integer not null, occurred_at timestamptz not null,
        recorded_at timestamptz not null, causation_id varchar, correlation_id varchar not null,
        traceparent varchar, payload varchar not null"""

MIGRATION = "migration"
"""What the snapshots of `migrate_lake` say of their writer."""

LATER_COLUMNS = f"directory_epoch bigint default {FIRST_DIRECTORY_EPOCH}"
"""Added to what is stored without rewriting it: a file that lacks the column is read as if it had the default."""

ROW_GROUP_MB = 8
"""Uncompressed size of a file's row groups. With one row group per step, readers held 128 MB at once, per thread and
column."""

CREATE_PARKED = f"""create table if not exists {PARKED} (
    pod varchar not null, aggregate_key varchar not null, event_id varchar not null, cut bigint not null,
    "position" bigint not null, event varchar not null, error varchar not null, parked_at timestamptz not null)"""

TABLES = (
    # `chunk` is needed to decide whether a position inside a large cut includes the event.
    f"create table if not exists {EVENTS} ({EVENT_COLUMNS}, chunk integer not null)",
    # Cuts that were complete over all partitions after a commit: as-of dates are answered from this table.
    f"""create table if not exists {CUTS} (
        pod varchar not null, epoch varchar not null, cut bigint not null, data_at timestamptz not null)""",
    CREATE_PARKED,
    # Cuts after `base_cut` are of `epoch`; those up to it are of `base_epoch` and earlier ones. Valid until
    # `retracted_at`.
    f"""create table if not exists {EPOCHS} (
        pod varchar not null, epoch varchar not null, base_cut bigint not null, base_epoch varchar,
        opened_at timestamptz not null, retracted_at timestamptz)""",
    # Events that a pod's database lost when it was restored or promoted: evidence, read only by people. `chunk` is null
    # for an event that was parked; `retracted_by` is the epoch that was opened.
    f"""create table if not exists {RETRACTED_EVENTS} ({EVENT_COLUMNS}, chunk integer,
        retracted_by varchar not null, retracted_at timestamptz not null)""",
    f"""create table if not exists {RETRACTED_CUTS} (
        pod varchar not null, epoch varchar not null, cut bigint not null, data_at timestamptz not null,
        retracted_by varchar not null, retracted_at timestamptz not null)""",
)

ADDITIONS = tuple(
    f"alter table {table} add column if not exists {LATER_COLUMNS}" for table in (EVENTS, RETRACTED_EVENTS)
)

# Partition by recorded_at, not occurred_at: an import of old orders would otherwise write hundreds of files per commit.
PARTITIONING = f"alter table {EVENTS} set partitioned by (pod, year(recorded_at), month(recorded_at), day(recorded_at))"


def fence_table(projection: str, pod: str) -> str:
    """Return the address of the table with the position of `projection` in `pod`, one row per partition.

    Raises SettingsError if a name cannot be part of a table's name.
    """
    for name in (projection, pod):
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
            raise SettingsError(f"{name!r} cannot be part of a table's name; use lower-case letters, digits and _.")
    return f"{SCHEMA}.fence_{projection}_{pod}"


def migrate_lake(
    catalog_dsn: str, data_path: str, *, pods: Sequence[str], partition_count: int, bounds: Bounds = DEFAULT_BOUNDS
) -> None:
    """Create what is missing in the lake. Idempotent; only one process may run it at a time."""
    if not is_object_path(data_path):
        Path(normal_data_path(data_path)).mkdir(parents=True, exist_ok=True)
    with connect_lake(catalog_dsn, data_path, bounds=bounds) as connection:
        with transaction(connection, MIGRATION):
            # Write rows to files, never into the catalog: so all readers, and the object store, see the same files.
            connection.execute(f"call {LAKE}.set_option('data_inlining_row_limit', 0)")
            connection.execute(f"create schema if not exists {SCHEMA}")
        if not _has_table(connection, "events"):
            _give_statistics(connection)
        with transaction(connection, MIGRATION):
            _create(connection, pods, partition_count)
        _bound_row_groups(connection)


def _give_statistics(connection: duckdb.DuckDBPyConnection) -> None:
    """Insert a row into `parked` and delete it, in two commits, before there are events.

    DuckLake 1.5.5 keeps no statistics of a table that never had a row, and asks the catalog for them again for each
    column of each query. This table is nearly always empty and often read: each query would cost ten times as much. A
    migration that was interrupted does it again.
    """
    with transaction(connection, MIGRATION):
        connection.execute(CREATE_PARKED)
        connection.execute(f"insert into {PARKED} values ('', '', '', 0, 0, '', '', now())")
    with transaction(connection, MIGRATION):
        connection.execute(f"delete from {PARKED} where pod = ''")


def _bound_row_groups(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep row groups small: a writer or reader holds each column of a row group uncompressed, and states are large.

    Applies to every table. DuckDB cannot bound row groups while it preserves the order of rows, so no writer preserves
    it (dbt_project/profiles.yml).
    """
    connection.execute(f"call {LAKE}.set_option('parquet_row_group_size_bytes', '{ROW_GROUP_MB}MB')")


def start_anew(connection: duckdb.DuckDBPyConnection, *, pods: Sequence[str], partition_count: int) -> None:
    """Drop the events and everything that belongs to them, and create the tables empty, in the caller's transaction.

    Reads no file, so files may be lost. Events retracted at the opening of an epoch are evidence, and stay.
    """
    for table in (EVENTS, CUTS, PARKED, EPOCHS, *(fence_table("lake", pod) for pod in pods)):
        connection.execute(f"drop table if exists {table}")
    _create(connection, pods, partition_count)


def _create(connection: duckdb.DuckDBPyConnection, pods: Sequence[str], partition_count: int) -> None:
    is_new = not _has_table(connection, "events")
    for statement in (*TABLES, *ADDITIONS):
        connection.execute(statement)
    if is_new:
        connection.execute(PARTITIONING)
    for pod in pods:
        _ensure_fence(connection, fence_table("lake", pod), partition_count)


def _has_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = connection.execute(
        "select 1 from duckdb_tables() where database_name = ? and schema_name = 'raw' and table_name = ?", [LAKE, name]
    ).fetchall()
    return bool(found)


def _ensure_fence(connection: duckdb.DuckDBPyConnection, table: str, partition_count: int) -> None:
    connection.execute(
        f"""create table if not exists {table} (
            "partition" integer not null, epoch varchar, cut bigint not null, chunk integer not null,
            data_at timestamptz)"""
    )
    # Create all partitions at the start, because a cut is complete only if every partition has it. A partition that is
    # added later has no events in earlier cuts, so it starts at the lowest position of the others.
    connection.execute(
        f"""insert into {table}
            select n, fence.epoch, coalesce(fence.cut, 0), 0, fence.data_at
            from range(?) as numbers (n),
                (select min(epoch) as epoch, min(cut) as cut, min_by(data_at, cut) as data_at from {table}) as fence
            where n not in (select "partition" from {table})""",
        [partition_count],
    )
