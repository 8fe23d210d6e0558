"""Queries on the lake: its positions, the cuts that belong to a time, the events up to a position.

Belongs here: reading `lake.raw`. Does not belong here: the marts (dbt_project/), comparisons (`reconcile/`, which has
its own queries on purpose).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from contracts.events.envelope import ENVELOPE_COLUMNS, FIRST_DIRECTORY_EPOCH
from derived.lake_connection import LAKE
from derived.lake_schema import CUTS, EVENTS, fence_table
from streams.projection import START, Position

Connection = duckdb.DuckDBPyConnection

WITHIN_POSITION = """
    join (select unnest($partitions) as "partition", unnest($cuts) as cut, unnest($chunks) as chunk) as reached
      on events."partition" = reached."partition"
     and (events.cut <= reached.cut or (events.cut = reached.cut + 1 and events.chunk < reached.chunk))"""
"""Joins only the events that a vector of positions includes; a partition without a position includes none."""
BEYOND_POSITION = """
    not exists (
        select 1
        from (select unnest($after_partitions) as "partition", unnest($after_cuts) as cut,
                     unnest($after_chunks) as chunk) as known
        where known."partition" = events."partition"
          and (events.cut <= known.cut or (events.cut = known.cut + 1 and events.chunk < known.chunk)))"""
"""The condition that another vector of positions does not include an event."""


def cut_vector(connection: Connection) -> dict[str, int]:
    """Return pod -> the highest cut that is complete over all its partitions; 0: none yet."""
    return {pod: min(position.cut for position in lake_positions(connection, pod).values()) for pod in pods(connection)}


def cut_vector_at(connection: Connection, moment: datetime) -> dict[str, int]:
    """Return pod -> the last recorded complete cut that was registered at or before `moment`; 0: none.

    Events committed before `moment` may be in a later cut, if one commit of the lake applied several cuts.
    """
    rows = connection.execute(
        f"select pod, max(cut) from {CUTS} where data_at <= $moment group by pod", {"moment": moment}
    ).fetchall()
    return dict.fromkeys(pods(connection), 0) | {str(pod): int(cut) for pod, cut in rows}


def first_cut_at(connection: Connection) -> datetime | None:
    """Return when the first recorded complete cut was registered; None if there is none."""
    row = connection.execute(f"select min(data_at) from {CUTS}").fetchone()
    return row[0] if row else None


def pods(connection: Connection) -> list[str]:
    """Return the pods that the lake has a fence for, sorted."""
    prefix = "fence_lake_"
    rows = connection.execute(
        """select table_name from duckdb_tables()
           where database_name = ? and schema_name = 'raw' and starts_with(table_name, ?)""",
        [LAKE, prefix],
    ).fetchall()
    return sorted(str(row[0]).removeprefix(prefix) for row in rows)


def lake_positions(connection: Connection, pod: str) -> dict[int, Position]:
    """Return the lake's position in every partition of `pod`; START if nothing has arrived yet."""
    rows = connection.execute(f'select "partition", cut, chunk from {fence_table("lake", pod)}').fetchall()
    return {int(row[0]): Position(cut=row[1], chunk=row[2]) for row in rows}


@dataclass(frozen=True, kw_only=True)
class LakeProgress:
    """The lake's position in one pod."""

    epoch: str | None
    """None if nothing has arrived."""
    positions: Mapping[int, Position]
    data_at: datetime | None
    """When the newest cut was registered of which the lake has any event."""


def recorded_cut(connection: Connection, pod: str) -> int:
    """Return the highest cut of the pod's current epoch that the lake recorded as complete; 0: none."""
    epoch = lake_progress(connection, pod).epoch
    rows = connection.execute(
        f"select coalesce(max(cut), 0) from {CUTS} where pod = ? and epoch = ?", [pod, epoch]
    ).fetchall()
    return int(rows[0][0])


def lake_progress(connection: Connection, pod: str) -> LakeProgress:
    """Return epoch, positions and data time of one pod, from one query."""
    query = f'select "partition", cut, chunk, epoch, data_at from {fence_table("lake", pod)}'
    rows = connection.execute(query).fetchall()
    return LakeProgress(
        epoch=next((row[3] for row in rows if row[3] is not None), None),
        positions={row[0]: Position(cut=row[1], chunk=row[2]) for row in rows},
        data_at=max((row[4] for row in rows if row[4] is not None), default=None),
    )


def has_reached(connection: Connection, pod: str, position: Mapping[int, Position]) -> bool:
    """Return whether the lake has everything that `position` includes."""
    reached = lake_positions(connection, pod)
    return all(reached.get(partition, START) >= wanted for partition, wanted in position.items())


def known_aggregates(
    connection: Connection, pod: str, aggregate_type: str, keys: Collection[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Return the aggregates (merchant_id, id) of one type, among `keys`, of which the lake has an event from `pod`."""
    if not keys:
        return set()
    merchants, ids = [key[0] for key in keys], [key[1] for key in keys]
    rows = connection.execute(
        f"""select distinct merchant_id, aggregate_id from {EVENTS}
            where pod = $pod and aggregate_type = $aggregate_type and (merchant_id, aggregate_id) in
                  (select (unnest($merchants::varchar[]), unnest($ids::varchar[])))""",
        {"pod": pod, "aggregate_type": aggregate_type, "merchants": merchants, "ids": ids},
    ).fetchall()
    return {(merchant_id, aggregate_id) for merchant_id, aggregate_id in rows}


def pods_of_moved(connection: Connection, keys: Collection[str]) -> set[str]:
    """Return the pods with events of those of these aggregates (``merchant/type/id``) whose merchant has moved."""
    merchants, types, ids = _split(sorted(keys))
    rows = connection.execute(
        f"""select distinct pod from {EVENTS}
            where merchant_id in (select merchant_id from {EVENTS} where directory_epoch > {FIRST_DIRECTORY_EPOCH})
              and (merchant_id, aggregate_type, aggregate_id) in
                  (select (unnest($merchants::varchar[]), unnest($types::varchar[]), unnest($ids::varchar[])))""",
        {"merchants": merchants, "types": types, "ids": ids},
    ).fetchall()
    return {str(row[0]) for row in rows}


def read_events(
    connection: Connection,
    pod: str,
    keys: Sequence[str] | None,
    position: Mapping[int, Position],
    *,
    after: Mapping[int, Position] | None = None,
    aggregate_types: Sequence[str] = (),
    columns: Sequence[str] = ENVELOPE_COLUMNS,
    is_latest_only: bool = False,
    leave_out: Sequence[str] = (),
    batch_rows: int = 10_000,
) -> pa.RecordBatchReader:
    """Return `columns` of the events of `pod` as of exactly `position`, as a stream of Arrow batches.

    `keys` are aggregate keys (``merchant/type/id``), None for all; `after` is a position whose events are omitted;
    `aggregate_types` limits the types; `is_latest_only` keeps the newest version of every key; `leave_out` are ids of
    events to omit. The order is not defined. `connection` cannot be used for other queries while the stream is read.
    """
    values: dict[str, object] = {"pod": pod, **_vector(position)}
    source = f"from {EVENTS} as events {WITHIN_POSITION}"
    conditions = ["events.pod = $pod", "events.cut <= $cut_max"]
    if after and position:
        known = _vector(after)
        values |= {f"after_{name}": known[name] for name in ("partitions", "cuts", "chunks")}
        values["after_cut"] = min(after.get(number, START).cut for number in position)
        conditions += ["events.cut > $after_cut", BEYOND_POSITION]
    if aggregate_types:
        conditions.append("list_contains($types, events.aggregate_type)")
        values["types"] = list(aggregate_types)
    if leave_out:
        conditions.append("not list_contains($leave_out, events.event_id)")
        values["leave_out"] = list(leave_out)
    if keys is not None:
        merchants, types, ids = _split(keys)
        values |= {"key_merchants": merchants, "key_types": types, "key_ids": ids}
        conditions.append(
            """(events.merchant_id, events.aggregate_type, events.aggregate_id) in
               (select (unnest($key_merchants), unnest($key_types), unnest($key_ids)))"""
        )
    where = " where " + " and ".join(conditions)
    query = f"select {_identifiers(columns)} {source}{where}"
    if is_latest_only:
        # Find the newest versions first and read payloads only of these: payloads would take much memory.
        query += f""" and events."position" in (
            select max_by(events."position", (events.directory_epoch, events.aggregate_version)) {source}{where}
            group by events.merchant_id, events.aggregate_type, events.aggregate_id)"""
    return connection.execute(query, values).to_arrow_reader(batch_rows)


def _identifiers(columns: Sequence[str]) -> str:
    if unknown := set(columns) - set(ENVELOPE_COLUMNS):
        raise ValueError(f"events have no column {', '.join(sorted(unknown))}")
    return ", ".join(f'events."{name}"' for name in columns)


def _vector(position: Mapping[int, Position]) -> dict[str, object]:
    ordered = sorted(position.items())
    return {
        "partitions": [partition for partition, _ in ordered],
        "cuts": [item.cut for _, item in ordered],
        "chunks": [item.chunk for _, item in ordered],
        "cut_max": max((item.cut + 1 for item in position.values()), default=0),
    }


def _split(keys: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    parts = [key.split("/", 2) for key in keys]
    return [part[0] for part in parts], [part[1] for part in parts], [part[2] for part in parts]
