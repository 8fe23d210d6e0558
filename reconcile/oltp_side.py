"""OLTP's side: reads the tables of a pod at a cut, as Arrow streams, into scratch tables.

Belongs here: the SQL with which the comparison reads a pod. Does not belong here: taking the cut (the caller passes it
in), or any code of `oltp/`.
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
"""Size of the batches in which a table is read; this memory is outside of DuckDB's limit."""

RANDOM_PAGE_COST = 1.1
"""PostgreSQL's default of 4 is for slow disks; it makes reading a whole table cheaper than some hundred rows of it."""

TEXT_IDS = {"merchant_id"}
"""Id columns of type text; all others are of type uuid. Their tables are small, so they are always read completely."""

ALSO_READ = {
    "payment": ("order_id", "gift_card_id"),
    "refund": ("payment_id", "order_id", "gift_card_id"),
    "fulfillment": ("order_id",),
}
"""Aggregate type -> columns that name other aggregates whose figures are also computed from its rows."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A PostgreSQL query and its bound values, all text."""

    sql: str
    bound: tuple[str, ...] = ()


class OpenCut(Protocol):
    """A cut whose snapshot is still open, as `ReconcileContext.take_cut` yields it."""

    @property
    def cut(self) -> int:
        """The cut's number."""

    @property
    def epoch(self) -> str:
        """The epoch of the cut."""

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """A connection that reads the snapshot."""

    @property
    def exported_snapshot(self) -> str:
        """For `set transaction snapshot` on further connections."""


@contextmanager
def snapshot_cursor(dsn: str, exported_snapshot: str | None = None) -> Iterator[adbc.Cursor]:
    """Open an Arrow cursor on `dsn` that reads one snapshot: the exported one, or a new one. It is closed on exit."""
    with connect_arrow(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("begin isolation level repeatable read, read only")
        if exported_snapshot is not None:
            cursor.execute(set_snapshot(exported_snapshot))
        cursor.execute("set local timezone = 'UTC'")
        cursor.execute(f"set local random_page_cost = {RANDOM_PAGE_COST}")
        yield cursor
        cursor.execute("rollback")


def stream(cursor: adbc.Cursor, query: str, bound: Sequence[str] = ()) -> pa.RecordBatchReader:
    """Return the rows of a query as a stream, a few megabytes at a time; `bound` are its parameters ``$1``, ``$2`` ...

    psycopg puts the parameters into the query as literals. With bound parameters the driver cannot use COPY: it would
    hold all rows in memory at once, outside of DuckDB's limit.
    """
    cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
    cursor.execute(re.sub(r"\$(\d+)", lambda found: sql.Literal(bound[int(found[1]) - 1]).as_string(), query))
    return cursor.fetch_record_batch()


def set_snapshot(exported_snapshot: str) -> str:
    """Return the statement that gives a transaction, at its begin, the exported snapshot."""
    # PostgreSQL cannot bind this value. It comes from pg_export_snapshot(), and we check its characters.
    if not all(character in "0123456789ABCDEF-" for character in exported_snapshot):
        raise ValueError(f"{exported_snapshot!r} is not an exported snapshot")
    return f"set transaction snapshot '{exported_snapshot}'"


def select_entity(entity: Entity, scope: Scope | None = None) -> Query:
    """Return the query that reads an entity in its shape: all rows, or those in a scope and those of `ALSO_READ`."""
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
    # A part without a root is selected by its own id column. It is a second branch, because no index serves a condition
    # that is joined to a subquery by `or`.
    own, _ = postgres_condition(scope, [f"own.{entity.id_field}"])
    of_part = f"select own.{entity.id_field} from {entity.source} as own where {own}"
    return f"t.{entity.id_field} in ({of_root} union {of_part})", bound


def left_name(pod: str, shape_name: str) -> str:
    """Return the name of the scratch table with OLTP's rows of an entity, or with the rows of a query."""
    return f"oltp_{pod}_{shape_name}"


def read_queries(
    connection: duckdb.DuckDBPyConnection, cursor: adbc.Cursor, pod: str, queries: Mapping[str, Query]
) -> None:
    """Read PostgreSQL queries (name -> query) at the cursor's snapshot into scratch tables named by `left_name`."""
    for name, query in queries.items():
        reader = stream(cursor, query.sql, query.bound)
        load(connection, left_name(pod, name), reader, _columns(reader.schema))


def _columns(schema: pa.Schema) -> str:
    """Return the select list: all columns; sums, which are transferred as text, are cast to HUGEINT."""
    return ", ".join(
        f"{quoted(item.name)}::{HUGEINT} as {quoted(item.name)}"
        if pa.types.is_string(item.type) and Column(name=item.name, type=HUGEINT).is_measure
        else quoted(item.name)
        for item in schema
    )
