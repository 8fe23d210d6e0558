"""OLTP's side: the tables of a pod read at a cut, as an Arrow stream, into scratch tables.

Belongs here: the SQL by which the comparison reads a pod. Does not belong here: taking the cut (passed in), or any
code of `oltp/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql

from contracts.arrow import connect_arrow
from contracts.scope import Scope
from reconcile.entities import AGGREGATE_ID, Entity, entities_of
from reconcile.scoping import postgres_condition
from reconcile.scratch import load
from reconcile.shapes import BIGINT, BOOLEAN, HUGEINT, VARCHAR, Column, quoted

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

CASTS = {VARCHAR: "::text", BIGINT: "::bigint", BOOLEAN: "::boolean"}


BATCH_BYTES = 2 << 20
"""How much of a table is held outside of DuckDB's memory limit while it is read."""

TEXT_IDS = {"merchant_id"}
"""Ids that are text, of tables so small that they are always read whole; all others are of type uuid."""

ALSO_READ = {
    "payment": ("order_id", "gift_card_id"),
    "refund": ("payment_id", "order_id", "gift_card_id"),
    "fulfillment": ("order_id",),
}
"""By aggregate type: columns that name aggregates whose figures are made of its rows, too."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A PostgreSQL query and the texts that it binds."""

    sql: str
    bound: tuple[str, ...] = ()


class OpenCut(Protocol):
    """A cut whose snapshot is still open: what a cut taker yields."""

    @property
    def cut(self) -> int:
        """The cut's number."""

    @property
    def epoch(self) -> str:
        """The epoch that it is of."""

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """A connection inside the snapshot."""

    @property
    def exported_snapshot(self) -> str:
        """For `set transaction snapshot` on further connections."""


@contextmanager
def snapshot_cursor(dsn: str, exported_snapshot: str | None = None) -> Iterator[adbc.Cursor]:
    """Open an Arrow cursor on `dsn` that reads one snapshot, the exported one or its own; ended on exit."""
    with connect_arrow(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("begin isolation level repeatable read, read only")
        if exported_snapshot is not None:
            cursor.execute(set_snapshot(exported_snapshot))
        cursor.execute("set local timezone = 'UTC'")
        yield cursor
        cursor.execute("rollback")


def stream(cursor: adbc.Cursor, query: str, bound: Sequence[str] = ()) -> pa.RecordBatchReader:
    """Return the rows of a query as a stream, a few megabytes at a time; `bound` are its parameters ``$1``, ``$2`` ...

    psycopg puts them into its text as literals: with parameters the driver could not use COPY, and would hold all rows
    at once, outside of DuckDB's limit.
    """
    cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
    cursor.execute(re.sub(r"\$(\d+)", lambda found: sql.Literal(bound[int(found[1]) - 1]).as_string(), query))
    return cursor.fetch_record_batch()


def set_snapshot(exported_snapshot: str) -> str:
    """Return the statement by which a transaction that has just begun sees what the exported snapshot sees."""
    # Not bindable in PostgreSQL; the value comes from pg_export_snapshot() and is checked to look like one.
    if not all(character in "0123456789ABCDEF-" for character in exported_snapshot):
        raise ValueError(f"{exported_snapshot!r} is not an exported snapshot")
    return f"set transaction snapshot '{exported_snapshot}'"


def select_entity(entity: Entity, scope: Scope | None = None) -> Query:
    """Return the query that reads an entity in its shape: what is in a scope, and for some more (`ALSO_READ`)."""
    names = {column.name for column in entity.fields}
    extra = [] if entity.field is None or "merchant_id" in names else [Column(name="merchant_id", type=VARCHAR)]
    key = f't."{entity.id_field}"::text as {AGGREGATE_ID}'
    columns = ", ".join(f't."{c.name}"{CASTS.get(c.type, "")} as "{c.name}"' for c in (*extra, *entity.fields))
    events = ", t.version::bigint as events" if entity.field is None else ""
    everything = f"select {key}, {columns}{events} from {entity.source} as t"
    if scope is None or entity.id_field in TEXT_IDS:
        return Query(sql=everything)
    condition, bound = _condition(entity, scope)
    return Query(sql=f"{everything} where {condition}", bound=bound)


def _condition(entity: Entity, scope: Scope) -> tuple[str, tuple[str, ...]]:
    columns = (entity.id_field, *ALSO_READ.get(entity.aggregate_type, ()))
    if entity.field is None or len(columns) == 1:
        return postgres_condition(scope, [f"t.{column}" for column in columns])
    root = entities_of(entity.aggregate_type)[0]
    condition, bound = postgres_condition(scope, [f"root.{column}" for column in columns])
    of_root = f"select root.{entity.id_field} from {root.source} as root where {condition}"
    # A part whose root is gone is looked at by its own column.
    own, _ = postgres_condition(scope, [f"t.{entity.id_field}"])
    return f"({own} or t.{entity.id_field} in ({of_root}))", bound


def left_name(pod: str, shape_name: str) -> str:
    """Return the name of the scratch table that holds OLTP's side of an entity, or of a query."""
    return f"oltp_{pod}_{shape_name}"


def read_queries(
    connection: duckdb.DuckDBPyConnection, cursor: adbc.Cursor, pod: str, queries: Mapping[str, Query]
) -> None:
    """Read PostgreSQL queries (name -> query) at the cursor's snapshot into scratch tables named by `left_name`."""
    for name, query in queries.items():
        reader = stream(cursor, query.sql, query.bound)
        load(connection, left_name(pod, name), reader, _columns(reader.schema))


def _columns(schema: pa.Schema) -> str:
    """Return what to take over: all columns, and numbers that came as text, because they are sums, as wide numbers."""
    return ", ".join(
        f"{quoted(item.name)}::{HUGEINT} as {quoted(item.name)}"
        if pa.types.is_string(item.type) and Column(name=item.name, type=HUGEINT).is_measure
        else quoted(item.name)
        for item in schema
    )
