"""The lake's side: folds raw events to the state at a cut, with SQL of the comparison's own.

Belongs here: selecting events by cut or by a vector of positions, folding them, strict decoding of payloads. Does not
belong here: how events get into the lake, or the warehouse's models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from contracts.events.upcasting import newest_sql
from contracts.ids import aggregate_key
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass
from reconcile.compare import Limits, Outcome
from reconcile.entities import AGGREGATE_ID, Entity, entities_of
from reconcile.pair import PodRun
from reconcile.parked import ParkedAggregate
from reconcile.residence import NOBODY, Moved
from reconcile.scratch import has_table, table
from reconcile.shapes import BIGINT, VARCHAR, Column, quoted

RAW_EVENTS = "lake.raw.events"
PART_BYTES = 6 << 20
"""How many bytes of payloads are decoded at a time, because DuckDB cannot spill a part of nested values to disk. The
limit is in bytes, not in aggregates, because an order may have one line or thousands.
"""
STATES = "states"
"""Name of the table with the decoded states of one part; it is small, so it is in memory."""
DUPLICATE_COLUMNS = "(aggregate_id varchar, aggregate_version bigint, copies bigint, merchant_id varchar)"


@dataclass(frozen=True, kw_only=True)
class PartitionPosition:
    """How far a copy has applied one partition: all cuts <= `cut`, and the first `chunk` entries of cut + 1."""

    partition: int
    cut: int
    chunk: int = 0


@dataclass(frozen=True, kw_only=True)
class Extent:
    """A selection of a pod's events: a condition on the alias `e` of the raw events, and its bound values."""

    pod: str
    condition: str
    bound: dict[str, Any] = field(default_factory=dict)
    source: str = RAW_EVENTS
    elsewhere: str = ""
    """A condition on events of other pods that count besides: those of merchants that came from there. Empty: none."""

    def select(self, columns: str, aggregate_type: str) -> tuple[str, dict[str, Any]]:
        """Return a query for `columns` of the events of one type, and its parameters."""
        mine = f"e.pod = $pod and {self.condition}"
        counted = f"(({mine}) or ({self.elsewhere}))" if self.elsewhere else mine
        return (
            f"select {columns} from {self.source} as e where {counted} and e.aggregate_type = $aggregate_type",
            {"pod": self.pod, "aggregate_type": aggregate_type, **self.bound},
        )


FROM_ELSEWHERE = """e.pod <> $pod and exists (
    from (select unnest($came::VARCHAR[]) as merchant_id, unnest($since::BIGINT[]) as directory_epoch) as resident
    where resident.merchant_id = e.merchant_id and e.directory_epoch < resident.directory_epoch)"""


def at_cut(pod: str, cut: int, moved: Moved = NOBODY) -> Extent:
    """Return the events of a pod up to and including `cut`: without those of merchants that have moved away, with what
    other pods had of those that came.
    """
    bound: dict[str, Any] = {"cut": cut}
    if not moved:
        return Extent(pod=pod, condition="e.cut <= $cut", bound=bound)
    bound |= {"away": list(moved.away), "came": list(moved.here), "since": list(moved.here.values())}
    stays = "not list_contains($away::VARCHAR[], e.merchant_id)"
    return Extent(pod=pod, condition=f"e.cut <= $cut and {stays}", bound=bound, elsewhere=FROM_ELSEWHERE)


def at_positions(connection: duckdb.DuckDBPyConnection, pod: str, positions: Sequence[PartitionPosition]) -> Extent:
    """Return the events that a copy with these positions has applied; of a partition without position it has none."""
    connection.execute(f"create or replace table {table('reach')} (partition integer, cut bigint, chunk integer)")
    for position in positions:
        connection.execute(
            f"insert into {table('reach')} values ($1, $2, $3)", [position.partition, position.cut, position.chunk]
        )
    condition = (
        f"exists (from {table('reach')} as r where r.partition = e.partition"
        " and (e.cut <= r.cut or (e.cut = r.cut + 1 and e.chunk < r.chunk)))"
    )
    return Extent(pod=pod, condition=condition)


def in_scope(run: PodRun, extent: Extent, name: str = "") -> Extent:
    """Return the extent restricted to the run's scope; its events are read from the lake into a table of their own.

    The pairs of a run that compare as of its cut share one table. With `name` it is read anew: a copy's own positions
    are others when it is read a second time, because the first comparison ran out of memory.
    """
    if run.scope is None:
        return extent
    source = table(f"{name or 'scoped_events'}_{run.pod}")
    # We ask first, because `create table if not exists` plans its query over the lake's files each time.
    if not name and has_table(run.connection, f"scoped_events_{run.pod}"):
        return replace(extent, source=source)
    condition, bound = "pod = $pod", dict[str, Any](pod=run.pod)
    if run.moved.here:
        condition += " or list_contains($came::VARCHAR[], merchant_id)"
        bound |= {"came": list(run.moved.here)}
    events = run.in_scope(f"(select * from {RAW_EVENTS} where {condition})", "aggregate_id")
    run.connection.execute(f"create or replace table {source} as from {events}", bound)
    return replace(extent, source=source)


def parked_aggregates(connection: duckdb.DuckDBPyConnection, pod: str) -> list[ParkedAggregate]:
    """Return the aggregates that the lake has parked, with time and reason; they are late, so they are not compared."""
    rows = connection.execute(
        """
        select aggregate_key, count(*), min(parked_at), arg_min(error, (cut, "position"))
        from lake.raw.parked where pod = $pod group by aggregate_key order by aggregate_key
        """,
        {"pod": pod},
    ).fetchall()
    return [
        ParkedAggregate(key=key, events=events, parked_at=parked_at, error=error)
        for key, events, parked_at, error in rows
    ]


def right_name(entity: Entity) -> str:
    """Return the name of the scratch table that holds the lake's side of an entity, until the next `fold`."""
    return f"lake_{entity.shape.name}"


def fold(connection: duckdb.DuckDBPyConnection, extent: Extent, aggregate_type: str) -> None:
    """Write the state of every aggregate of a type at an extent into scratch tables named by `right_name`.

    Also writes `event_duplicates`: the (aggregate_id, aggregate_version, copies) that the lake has more than once.
    """
    entities = entities_of(aggregate_type)
    _write_heads(connection, extent, aggregate_type)
    once = ""
    if _write_duplicates(connection, extent, aggregate_type):
        once = "qualify row_number() over (partition by e.aggregate_id order by e.position, e.payload) = 1"
    _write_newest(connection, extent, aggregate_type, once)
    for number, part in enumerate(_parts(connection)):
        _write_states(connection, aggregate_type, part)
        for entity in entities:
            target = table(right_name(entity))
            into = f"insert into {target}" if number else f"create or replace table {target} as"
            connection.execute(f"{into} {_select(entity)}")
    connection.execute(f"drop table {table('newest')}")
    connection.execute(f"drop table {STATES}")


def _write_newest(connection: duckdb.DuckDBPyConnection, extent: Extent, aggregate_type: str, once: str) -> None:
    """Write the newest payload of every aggregate, divided into parts of about PART_BYTES bytes."""
    events, bound = extent.select("e.*", aggregate_type)
    connection.execute(
        f"""
        create or replace table {table("newest")} as
        select aggregate_id, pod, epoch, directory_epoch, events, payload,
               sum(strlen(payload)) over (rows between unbounded preceding and current row) // {PART_BYTES:d} as part
        from (
            select h.aggregate_id, e.pod, e.epoch, h.directory_epoch, h.events,
                   {newest_sql(aggregate_type, "e.payload", "e.schema_version")} as payload
            from ({events}) as e
            join {table("heads")} as h on h.aggregate_id = e.aggregate_id
             and h.directory_epoch = e.directory_epoch and h.aggregate_version = e.aggregate_version
            {once}
        )
        """,
        bound,
    )


def _parts(connection: duckdb.DuckDBPyConnection) -> list[int]:
    """Return the numbers of the parts; [0] when there are no payloads."""
    rows = connection.execute(f"select distinct part from {table('newest')} order by part").fetchall()
    return [int(row[0]) for row in rows] or [0]


def _write_states(connection: duckdb.DuckDBPyConnection, aggregate_type: str, part: int) -> None:
    connection.execute(
        f"""
        create or replace temp table {STATES} as
        select aggregate_id, pod, epoch, directory_epoch, events, from_json(payload, $structure).state as state
        from {table("newest")} where part = $part
        """,
        {"structure": json.dumps({"state": structure(entities_of(aggregate_type))}), "part": part},
    )


def _write_heads(connection: duckdb.DuckDBPyConnection, extent: Extent, aggregate_type: str) -> None:
    # A higher version that came from an earlier residence of the merchant is no newer one.
    events, bound = extent.select("e.aggregate_id, e.directory_epoch, e.aggregate_version", aggregate_type)
    connection.execute(
        f"""
        create or replace table {table("heads")} as
        select aggregate_id, max(directory_epoch) as directory_epoch,
               max_by(aggregate_version, (directory_epoch, aggregate_version)) as aggregate_version,
               count(distinct aggregate_version)::BIGINT as events, count(*) as copies,
               min(directory_epoch) <> max(directory_epoch) as has_moved
        from ({events}) group by aggregate_id
        """,
        bound,
    )
    _count_moved(connection, events, bound)


def _count_moved(connection: duckdb.DuckDBPyConnection, events: str, bound: dict[str, Any]) -> None:
    """Count the events of aggregates that have moved: what slipped into an earlier residence is none of them."""
    heads = table("heads")
    if connection.execute(f"select exists (from {heads} where has_moved)").fetchall()[0][0]:
        connection.execute(
            f"""
            update {heads} as standing set events = counted.events, copies = counted.copies
            from (
                select h.aggregate_id, count(distinct e.aggregate_version) as events,
                       count(*) - count(distinct (e.directory_epoch, e.aggregate_version))
                       + count(distinct e.aggregate_version) as copies
                from ({events}) as e
                join {heads} as h on h.aggregate_id = e.aggregate_id and h.aggregate_version >= e.aggregate_version
                where h.has_moved group by h.aggregate_id
            ) as counted where counted.aggregate_id = standing.aggregate_id
            """,
            bound,
        )


def _write_duplicates(connection: duckdb.DuckDBPyConnection, extent: Extent, aggregate_type: str) -> bool:
    # Read the lake a second time only when an aggregate has more events than versions.
    crowded = connection.execute(f"select count(*) from {table('heads')} where copies > events").fetchall()[0][0]
    if not crowded:
        connection.execute(f"create or replace table {table('event_duplicates')} {DUPLICATE_COLUMNS}")
        return False
    names = "e.aggregate_id, e.directory_epoch, e.aggregate_version, e.merchant_id"
    events, bound = extent.select(names, aggregate_type)
    connection.execute(
        f"""
        create or replace table {table("event_duplicates")} as
        select d.aggregate_id, d.aggregate_version, count(*) as copies, any_value(d.merchant_id) as merchant_id
        from ({events}) as d
        join {table("heads")} as h on h.aggregate_id = d.aggregate_id and h.copies > h.events
        group by d.aggregate_id, d.directory_epoch, d.aggregate_version having count(*) > 1
        """,
        bound,
    )
    found = connection.execute(f"select count(*) from {table('event_duplicates')}").fetchone()
    return found is not None and found[0] > 0


def event_duplicates(connection: duckdb.DuckDBPyConnection, limits: Limits, aggregate_type: str) -> Outcome:
    """Return the duplicate events that the last `fold` of this type found, as differences of the entity `events`."""
    rows = connection.execute(
        f"select aggregate_id, aggregate_version, copies, merchant_id, count(*) over () "
        f"from {table('event_duplicates')} order by 1, 2 limit {limits.sample:d}"
    ).fetchall()
    sample = tuple(
        Difference(
            entity="events",
            key=(aggregate_id, str(version)),
            kind=DifferenceClass.DUPLICATE,
            merchant_id=merchant_id,
            aggregate_key=aggregate_key(merchant_id, aggregate_type, aggregate_id),
            columns=(ColumnDifference(column="copies", left=1, right=copies, difference=copies - 1),),
        )
        for aggregate_id, version, copies, merchant_id, _ in rows
    )
    return Outcome(compared=0, classes={DifferenceClass.DUPLICATE: rows[0][4]} if rows else {}, sample=sample)


def structure(entities: Sequence[Entity]) -> dict[str, Any]:
    """Return the structure with which DuckDB decodes the state of an aggregate with these tables."""
    root, *parts = entities
    found: dict[str, Any] = _types(root.fields)
    for part in parts:
        assert part.field is not None
        found[part.field] = [_types(part.fields)]
    return found


def _types(fields: Sequence[Column]) -> dict[str, Any]:
    # Integers are read as text and cast strictly, because DuckDB would silently round 12.5 to 13.
    return {column.name: VARCHAR if column.type == BIGINT else column.type for column in fields}


def decoded(source: str, column: Column) -> str:
    """Return the expression of a field of a decoded state, under its name; a number that is none is null."""
    return f"{decoded_value(source, column)} as {quoted(column.name)}"


def decoded_value(source: str, column: Column) -> str:
    """Return the same without its name."""
    value = f"{source}.{quoted(column.name)}"
    if column.default is not None:
        # A payload from before the field was added lacks it; then the default applies.
        value = f"coalesce({value}, '{column.default}')"
    if column.type == BIGINT:
        number = f"try_cast({value} as BIGINT)"
        value = f"case when {number}::VARCHAR = {value} then {number} end"
    return value


def _select(entity: Entity) -> str:
    if entity.field is None:
        fields = ", ".join(decoded("state", column) for column in entity.fields)
        return f"select {AGGREGATE_ID}, {fields}, pod, epoch, directory_epoch, events from {STATES}"
    fields = ", ".join(decoded("part", column) for column in entity.fields)
    return (
        f"select {AGGREGATE_ID}, merchant_id, {fields} from (select {AGGREGATE_ID}, state.merchant_id as merchant_id, "
        f"unnest(state.{quoted(entity.field)}) as part from {STATES})"
    )
