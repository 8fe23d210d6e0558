"""What snapshots of the lake touched, and which files of it are not as its catalog says.

Belongs here: reading DuckLake's catalog in PostgreSQL with SQL of our own, and looking at a file's size. Does not
belong here: when that is done (`witness/lake.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import md5
from pathlib import Path
from typing import Any

from contracts.announcements import LAKE_WRITER
from contracts.ownership import LAKE, WAREHOUSE
from contracts.sightings import Sighting, SightingKind
from contracts.text import counted
from reconcile.connections import Connection

NAME = "lake"
WATCHED = {
    "raw": LAKE.name,
    **dict.fromkeys(("staging", "intermediate", "marts", "builds"), WAREHOUSE.name),
}
"""Schema -> the copy whose tables and views only writers of ours change."""
SNAPSHOTS_AT_ONCE = 5_000
RAW, EVENTS = "raw", "events"

SNAPSHOTS = """
select snapshot.snapshot_id, snapshot.snapshot_time::text, changes.changes_made, changes.author, changes.commit_message,
       snapshot.snapshot_time
from ducklake_snapshot as snapshot left join ducklake_snapshot_changes as changes using (snapshot_id)
"""
AFTER = f"{SNAPSHOTS} where snapshot_id > %(after)s order by snapshot_id limit %(limit)s"
LAST = f"{SNAPSHOTS} order by snapshot_id desc limit 1"
NAMES = """
select distinct tables.table_id, schemas.schema_name, tables.table_name
from ducklake_table as tables inner join ducklake_schema as schemas on tables.schema_id = schemas.schema_id
where tables.table_id = any(%(tables)s)
"""
# Of a table that is partitioned by pod the file says its pod. Its statistics say which aggregates and cuts it may have.
TOUCHED = """
with files as (
    select data_file_id, table_id from ducklake_data_file
    where begin_snapshot = %(snapshot)s or end_snapshot = %(snapshot)s
    union select data_file_id, table_id from ducklake_delete_file where begin_snapshot = %(snapshot)s
)
select files.table_id, pods.partition_value,
    max(stats.min_value) filter (where column_name = 'aggregate_id' and min_value = max_value),
    max(stats.min_value) filter (where column_name = 'aggregate_type' and min_value = max_value),
    max(stats.min_value) filter (where column_name = 'cut'), max(stats.max_value) filter (where column_name = 'cut')
from files
left join ducklake_file_partition_value as pods
    on pods.data_file_id = files.data_file_id and pods.partition_key_index = 0
left join ducklake_column as columns
    on columns.table_id = files.table_id and columns.end_snapshot is null
    and columns.column_name in ('aggregate_id', 'aggregate_type', 'cut')
left join ducklake_file_column_stats as stats
    on stats.data_file_id = files.data_file_id and stats.column_id = columns.column_id
group by files.data_file_id, files.table_id, pods.partition_value
"""
FILES = """
select kind, file_id, schemas.schema_name, tables.table_name, pods.partition_value, files.file_size_bytes,
    case when not files.path_is_relative then files.path else concat(
        case when tables.path_is_relative and schemas.path_is_relative then %(root)s::text else '' end,
        case when tables.path_is_relative then schemas.path else '' end, tables.path, files.path
    ) end as full_path
from (
    select 'data' as kind, data_file_id as file_id, data_file_id, table_id, path, path_is_relative, file_size_bytes,
        begin_snapshot, end_snapshot
    from ducklake_data_file
    union all
    select 'delete', delete_file_id, data_file_id, table_id, path, path_is_relative, file_size_bytes, begin_snapshot,
        end_snapshot
    from ducklake_delete_file
) as files
inner join ducklake_table as tables on tables.table_id = files.table_id and tables.end_snapshot is null
inner join ducklake_schema as schemas on schemas.schema_id = tables.schema_id and schemas.end_snapshot is null
left join ducklake_file_partition_value as pods
    on pods.data_file_id = files.data_file_id and pods.partition_key_index = 0
where files.end_snapshot is null and schemas.schema_name = any(%(schemas)s)
"""
NEW_FILES = f"{FILES} and files.begin_snapshot > %(after)s"
NEXT_FILES = f"{FILES} and (kind, file_id) > (%(kind)s, %(file)s) order by kind, file_id limit %(limit)s"
IS_NAMED = {
    "data": "select 1 from ducklake_data_file where data_file_id = %s and end_snapshot is null",
    "delete": "select 1 from ducklake_delete_file where delete_file_id = %s and end_snapshot is null",
}

HAS_EVENTS = """
select 1 from ducklake_data_file as files inner join ducklake_table as tables on tables.table_id = files.table_id
where tables.table_name = 'events' limit 1
"""

ENTRY = re.compile(r'([a-z_]+):(?:"((?:[^"]|"")*)"(?:\."((?:[^"]|"")*)")?|(\d+))')
"""An entry of a snapshot's changes: what was done, and to which table, by name or by number."""
NEW_SCHEMA = "created_schema"
"""A schema that was created holds nothing yet."""


@dataclass(frozen=True, kw_only=True)
class Touched:
    """What a snapshot changed: a table, and as far as its files tell which rows."""

    schema: str
    table: str
    pod: str = ""
    aggregate_id: str | None = None
    aggregate_type: str | None = None
    cuts: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A snapshot as the catalog describes it; of a stored position only number and identity are known."""

    number: int
    identity: str
    changes: str = ""
    author: str = ""
    message: str = ""
    made_at: datetime | None = None

    @property
    def position(self) -> str:
        """Return it as the witness's position is kept."""
        return f"{self.number} {self.identity}"

    @staticmethod
    def of_position(stored: str) -> Snapshot | None:
        """Return the snapshot of a kept position; None when there is none."""
        number, _, identity = stored.partition(" ")
        return Snapshot(number=int(number), identity=identity) if number.isdigit() else None


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """A file that the catalog names."""

    kind: str
    number: int
    schema: str
    table: str
    pod: str
    size: int
    path: Path

    @property
    def key(self) -> tuple[str, int]:
        """Return what names it in the catalog."""
        return self.kind, self.number

    def wrong(self) -> str:
        """Return what is wrong with it; empty when it is there in its size."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return "is gone"
        return "" if size == self.size else f"has {counted(size, 'byte')} instead of {self.size:,}"


def has_events(catalog: Connection) -> bool:
    """Return whether the lake has ever had an event."""
    return catalog.execute(HAS_EVENTS).fetchone() is not None


def last_snapshot(catalog: Connection) -> Snapshot:
    """Return the newest snapshot; a lake always has one."""
    return _snapshot(catalog.execute(LAST).fetchall()[0])


def snapshots_after(catalog: Connection, after: int, *, limit: int = SNAPSHOTS_AT_ONCE) -> list[Snapshot]:
    """Return the snapshots after a number, oldest first."""
    return [_snapshot(row) for row in catalog.execute(AFTER, {"after": after, "limit": limit}).fetchall()]


def _snapshot(row: tuple[Any, ...]) -> Snapshot:
    number, moment, changes, author, message, made_at = row
    said = "|".join((str(moment), changes or "", author or "", message or ""))
    return Snapshot(
        number=int(number),
        identity=md5(said.encode(), usedforsecurity=False).hexdigest(),
        changes=changes or "",
        author=author or "",
        message=message or "",
        made_at=made_at,
    )


def stranger_sightings(catalog: Connection, snapshots: Sequence[Snapshot]) -> list[Sighting]:
    """Return what is seen of the snapshots among these that no writer of ours made."""
    found = []
    for snapshot in snapshots:
        if snapshot.author == LAKE_WRITER:
            continue
        for touched in sorted(_touched(catalog, snapshot), key=str):
            found.append(
                Sighting(
                    witness=NAME,
                    kind=SightingKind.UNANNOUNCED,
                    pod=touched.pod,
                    copy=WATCHED[touched.schema],
                    place=f"{touched.schema}.{touched.table}".rstrip("."),
                    aggregate_id=touched.aggregate_id,
                    aggregate_type=touched.aggregate_type,
                    cuts=touched.cuts,
                    what=f"Snapshot {snapshot.number} by no writer of the lake: {snapshot.changes}.",
                    transaction=f"snapshot {snapshot.number} {snapshot.identity}",
                    written_at=snapshot.made_at,
                )
            )
    return found


def _touched(catalog: Connection, snapshot: Snapshot) -> set[Touched]:
    entries = [entry for entry in ENTRY.findall(snapshot.changes) if entry[0] != NEW_SCHEMA or entry[1] == RAW]
    numbers = {int(number) for *_, number in entries if number}
    rows = catalog.execute(NAMES, {"tables": list(numbers)}).fetchall()
    names = {number: (schema, table) for number, schema, table in rows if schema in WATCHED}
    found = {Touched(schema=schema, table=table) for _, schema, table, _ in entries if schema in WATCHED}
    told = set()
    for number, *said in catalog.execute(TOUCHED, {"snapshot": snapshot.number}).fetchall() if names else ():
        if number in names:
            found.add(_of_file(*names[number], *said))
            told.add(number)
    # Of a table whose files do not tell: it was altered or dropped, or its rows are kept in the catalog.
    return found | {Touched(schema=names[one][0], table=names[one][1]) for one in names if one not in told}


def _of_file(
    schema: str,
    table: str,
    pod: str | None,
    aggregate_id: str | None,
    aggregate_type: str | None,
    first_cut: str | None,
    last_cut: str | None,
) -> Touched:
    if table != EVENTS:
        return Touched(schema=schema, table=table)
    is_told = first_cut is not None and last_cut is not None
    return Touched(
        schema=schema,
        table=table,
        pod=pod or "",
        aggregate_id=aggregate_id,
        aggregate_type=aggregate_type,
        cuts=(int(first_cut or 0) - 1, int(last_cut or 0)) if is_told else None,
    )


def files_of(catalog: Connection, data_path: str, *, after_snapshot: int) -> list[NamedFile]:
    """Return the files that came with the snapshots after one, and are still named."""
    return _files(catalog, NEW_FILES, data_path, after=after_snapshot)


def files_after(catalog: Connection, data_path: str, key: tuple[str, int], limit: int) -> list[NamedFile]:
    """Return the next files of the rotation after `key`; fewer than `limit` at its end."""
    return _files(catalog, NEXT_FILES, data_path, kind=key[0], file=key[1], limit=limit)


def _files(catalog: Connection, query: str, data_path: str, **bound: Any) -> list[NamedFile]:
    root = str(Path(data_path).absolute()) + "/"
    rows = catalog.execute(query, {**bound, "root": root, "schemas": list(WATCHED)}).fetchall()
    return [
        NamedFile(
            kind=kind,
            number=int(number),
            schema=schema,
            table=table,
            pod=(pod or "") if (schema, table) == ("raw", EVENTS) else "",
            size=int(size),
            path=Path(path),
        )
        for kind, number, schema, table, pod, size, path in rows
    ]


def is_still_named(catalog: Connection, file: NamedFile) -> bool:
    """Return whether the newest snapshot still reads a file."""
    return catalog.execute(IS_NAMED[file.kind], [file.number]).fetchone() is not None


def file_sighting(file: NamedFile, reason: str, snapshot: int) -> Sighting:
    """Return what is seen of a file that is not as the catalog says, or not what it was."""
    return Sighting(
        witness=NAME,
        kind=SightingKind.LOST,
        pod=file.pod,
        copy=WATCHED[file.schema],
        place=f"{file.schema}.{file.table}",
        what=f"The {file.kind} file {file.number} ({file.path.name}) {reason}.",
        transaction=f"{file.kind} file {file.number} at snapshot {snapshot}",
    )
