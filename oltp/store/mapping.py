"""Which tables hold an aggregate, and the statements that read and write them.

Belongs here: the mapping, as values, and SQL text built once from declared column names (never from values). Does not
belong here: running the statements (`oltp/store/rows.py`).

In both directions, each statement transfers its states or rows as one JSON text, which PostgreSQL parses
(`json_populate_recordset`). So a statement has the same text and one parameter for one line or for a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, get_args, get_origin, get_type_hints

from sqlalchemy import Column, DefaultClause, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import UUID

from contracts.events import STATE_TYPES
from contracts.events.common import AggregateState, Value
from oltp.store import tables

_UNINDEXED_MERCHANT = "merchant_id || ''"
"""The merchant beside an id. A plan that was made while the table was small would otherwise use an index that begins
with the merchant, and read all its rows every time, until the table is analyzed."""

_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]

PartRow = dict[str, Any]
"""The column values of one part by column name, over all its tables."""


# Compared by identity, so that statements can be cached by mapping.
@dataclass(frozen=True, kw_only=True, eq=False)
class ChildTable:
    """One table of a kind of part; a part may be stored in several tables (order line and its tax basis)."""

    table: Table
    root_id: str
    """Column that holds the root's id."""
    optional_field: str | None = None
    """The part has a row here only when this field is not None."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Return all column names."""
        return tuple(self.table.columns.keys())

    @cached_property
    def key(self) -> tuple[str, ...]:
        """Return the primary key's column names."""
        return tuple(column.name for column in self.table.primary_key.columns)

    def present(self, rows: Sequence[PartRow]) -> list[PartRow]:
        """Return the rows that this table contains."""
        return [row for row in rows if self.optional_field is None or row[self.optional_field] is not None]

    def differs(self, before: PartRow, after: PartRow) -> bool:
        """Return whether the part's row in this table changes."""
        return any(before[name] != after[name] for name in self.columns)

    @cached_property
    def insert(self) -> bytes:
        """Insert rows, given as a JSON array."""
        return _insert(self.table, self.columns).encode()

    @cached_property
    def update(self) -> bytes:
        """Update changed rows, given as a JSON array; upsert if the part's row is optional in this table."""
        changing = [name for name in self.columns if name not in (*self.key, self.root_id, "merchant_id")]
        if self.optional_field is None:
            return _update_many(self.table, self.key, changing).encode()
        assignments = ", ".join(f"{name} = excluded.{name}" for name in changing)
        keys = ", ".join(self.key)
        return f"{_insert(self.table, self.columns)} on conflict ({keys}) do update set {assignments}".encode()

    @cached_property
    def delete(self) -> bytes:
        """Delete rows by key; the parameter is a JSON array of rows."""
        keys = ", ".join(self.key)
        return f"delete from {self.table} where ({keys}) in (select {keys} from {_given(self.table)})".encode()


# Compared by identity, so that statements can be cached by mapping.
@dataclass(frozen=True, kw_only=True, eq=False)
class ChildMapping:
    """A list of parts in an aggregate's state and the tables that hold them."""

    field: str
    value_type: type[Value]
    key: tuple[str, ...]
    """Fields that identify a part."""
    tables: tuple[ChildTable, ...]
    order: tuple[str, ...]
    """Fields that order the list."""

    @property
    def is_split(self) -> bool:
        """Whether several tables hold a part."""
        return len(self.tables) > 1

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Return the part's field names."""
        return self.value_type.__struct_fields__


# Compared by identity, so that statements can be cached by mapping.
@dataclass(frozen=True, kw_only=True, eq=False)
class AggregateMapping:
    """An aggregate's root table and its parts."""

    state_type: type[AggregateState]
    table: Table
    children: tuple[ChildMapping, ...] = ()

    @property
    def id_field(self) -> str:
        """Return the name of the root's key."""
        return self.state_type.ID_FIELD

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Return the root's columns: the fields of the state that are not lists of parts."""
        lists = {child.field for child in self.children}
        return tuple(name for name in self.state_type.__struct_fields__ if name not in lists)

    @cached_property
    def inherited(self) -> tuple[str, ...]:
        """Return the root's fields that the tables of its parts repeat."""
        used = {name for child in self.children for part in child.tables for name in part.columns}
        own = {name for child in self.children for name in child.fields}
        return tuple(name for name in self.columns if name in used - own or name == self.id_field)

    @cached_property
    def update(self) -> bytes:
        """Update roots, given as a JSON array of states."""
        changing = [name for name in self.columns if name not in (self.id_field, "merchant_id")]
        update = _update_many(self.table, (self.id_field,), changing)
        return f"{update} and target.{_UNINDEXED_MERCHANT} = given.merchant_id".encode()

    @cached_property
    def advance(self) -> bytes:
        """Give one root (merchant, id) its next version, and change nothing else."""
        return f"update {self.table} set version = version + 1 where merchant_id = %s and {self.id_field} = %s".encode()

    @cached_property
    def delete(self) -> bytes:
        """Delete one root (merchant, id) whose parts are already deleted."""
        return f"delete from {self.table} where merchant_id = %s and {self.id_field} = %s".encode()

    def lock(self, column: str) -> bytes:
        """Lock the merchant's roots with a given value in `column`, in the order of their ids."""
        return _lock(self, column)

    def select(self, column: str) -> bytes:
        """Read the merchant's aggregates whose root has a given value in `column`: one JSON state per row, by id."""
        return _select(self, column)


@cache
def insert_statement(mappings: tuple[AggregateMapping, ...], afterwards: str = "") -> bytes:
    """Insert new aggregates of these types with all their parts; `afterwards`: a statement that runs after that.

    Parameters: those of `afterwards`, then per type a JSON object of further columns and a JSON array of states.
    """
    parts = [f"afterwards as ({afterwards})"] if afterwards else []
    for mapping in mappings:
        parts.append(f"{_states(mapping)} as ({_given_states(mapping)})")
        parts += [
            f"{_items(child)} as ({_given_parts(mapping, child)})" for child in mapping.children if child.is_split
        ]
        if mapping is not mappings[-1]:
            parts.append(f"{mapping.table.name}_inserted as ({_insert_root(mapping)})")
    # PostgreSQL runs the main statement first, and these CTEs from the last to the first. So a taken id violates the
    # primary key of its own table first.
    parts += [
        f"{part.table.name}_inserted as ({_insert_parts(mapping, child, part)})"
        for mapping in reversed(mappings)
        for child in reversed(mapping.children)
        for part in reversed(child.tables)
    ]
    return f"with {', '.join(parts)} {_insert_root(mappings[-1])}".encode()


def _states(mapping: AggregateMapping) -> str:
    return f"{mapping.table.name}_given"


def _given(table: Table) -> str:
    return f"json_populate_recordset(null::{table}, %s::json) as given"


def _insert(table: Table, names: Sequence[str]) -> str:
    listed = ", ".join(names)
    return f"insert into {table} ({listed}) select {listed} from {_given(table)}"


def _update_many(table: Table, key: Sequence[str], changing: Sequence[str]) -> str:
    assignments = ", ".join(f"{name} = given.{name}" for name in changing)
    matches = " and ".join(f"target.{name} = given.{name}" for name in key)
    return f"update {table} as target set {assignments} from {_given(table)} where {matches}"


def _insert_root(mapping: AggregateMapping) -> str:
    listed = ", ".join(mapping.columns)
    return f"insert into {mapping.table} ({listed}) select {listed} from {_states(mapping)}"


def _insert_parts(mapping: AggregateMapping, child: ChildMapping, part: ChildTable) -> str:
    values = ", ".join(_part_value(child, column, name) for name, column in part.table.columns.items())
    condition = f" where item.{part.optional_field} is not null" if part.optional_field else ""
    source = f"{_states(mapping)} as given, json_populate_recordset(null::{part.table}, given.{child.field}) as item"
    if child.is_split:
        source, values = f"{_items(child)} as item", values.replace("given.", "item.")
    return f"insert into {part.table} ({', '.join(part.columns)}) select {values} from {source}{condition}"


def _part_value(child: ChildMapping, column: Column[Any], name: str) -> str:
    """Return the SQL value for a column of a part. A field that is absent in the JSON gets the column's default."""
    if name not in child.fields:
        return f"given.{name}"
    default = column.server_default
    return f"coalesce(item.{name}, {default.arg!r})" if isinstance(default, DefaultClause) else f"item.{name}"


def _given_states(mapping: AggregateMapping) -> str:
    """Return the subquery of the states: each is parsed once, to the columns of its root and the lists of its parts."""
    further = [f"{_json_value('extra', column, name)} as {name}" for name, column in _extra_columns(mapping).items()]
    columns = [_typed(mapping.table.columns[name]) for name in mapping.columns]
    columns += [f"{child.field} json" for child in mapping.children]
    return (
        f"select {', '.join(['state.*', *further])} from (select %s::json as extra) as added, "
        f"json_to_recordset(%s::json) as state ({', '.join(columns)})"
    )


def _items(child: ChildMapping) -> str:
    return f"{child.tables[0].table.name}_given"


def _given_parts(mapping: AggregateMapping, child: ChildMapping) -> str:
    """Return the subquery of the parts that several tables hold, with the columns that are not theirs."""
    columns = {name: column for part in reversed(child.tables) for name, column in part.table.columns.items()}
    others = [f"given.{name}" for name in columns if name not in child.fields]
    fields = ", ".join(_typed(columns[name]) for name in child.fields)
    return (
        f"select {', '.join(['part.*', *others])} from {_states(mapping)} as given, "
        f"json_to_recordset(given.{child.field}) as part ({fields})"
    )


def _typed(column: Column[Any]) -> str:
    return f"{column.name} {column.type.compile(dialect=_POSTGRESQL)}"


def _extra_columns(mapping: AggregateMapping) -> dict[str, Column[Any]]:
    """Return by name the columns that are fields of neither the part nor its root; the caller adds their values."""
    return {
        column.name: column
        for child in mapping.children
        for part in child.tables
        for column in part.table.columns
        if column.name not in (*child.fields, *mapping.columns)
    }


def _json_value(source: str, column: Column[Any], name: str) -> str:
    cast = "::uuid" if isinstance(column.type, UUID) else ""
    return f"({source} ->> '{name}'){cast}"


@cache
def _lock(mapping: AggregateMapping, column: str) -> bytes:
    return (f"select from {_roots(mapping, column)} order by {mapping.id_field} for no key update").encode()


@cache
def _select(mapping: AggregateMapping, column: str) -> bytes:
    listed = [*mapping.columns, *(f"({_parts(mapping, child)}) as {child.field}" for child in mapping.children)]
    return (
        f"select row_to_json(state)::text from ("
        f"select {', '.join(listed)} from {_roots(mapping, column)} order by {mapping.id_field}) as state"
    ).encode()


def _roots(mapping: AggregateMapping, column: str) -> str:
    if column not in mapping.table.columns:
        raise ValueError(f"{mapping.table} has no column {column}")
    merchant = _UNINDEXED_MERCHANT if column == mapping.id_field else "merchant_id"
    return f"{mapping.table} as root where {merchant} = %s and {column} = %s"


def _parts(mapping: AggregateMapping, child: ChildMapping) -> str:
    """Return the subquery that gives a root's parts as one JSON array."""
    first, *others = child.tables
    owner = {name: part.table for part in reversed(child.tables) for name in part.columns}
    listed = ", ".join(f"{owner[name]}.{name}" for name in child.fields)
    joins = "".join(
        f" left join {part.table} on "
        + " and ".join(f"{part.table}.{name} = {first.table}.{name}" for name in child.key)
        for part in others
    )
    order = ", ".join(f"{owner[name]}.{name}" for name in child.order)
    return (
        f"select coalesce(json_agg(row_to_json(part)), '[]') from (select {listed} from {first.table}{joins} "
        f"where {first.table}.{first.root_id} = root.{mapping.id_field} order by {order}) as part"
    )


@dataclass(frozen=True, kw_only=True)
class Held:
    """How a list of parts is held, where that does not follow from its type and its table's name."""

    table: Table | None = None
    """None: ``<aggregate_type>_<field>``."""
    order: tuple[str, ...] | None = None
    """None: by its key."""
    further: Table | None = None
    """A second table with fields of the same parts."""
    optional_field: str | None = None
    """The part has a row there only when this field is not None."""


_GRANTS = Held(order=("granted_at", "grant_id"))

HELD: dict[tuple[str, str], Held] = {
    ("merchant_entitlement", "grants"): _GRANTS,
    ("customer_entitlement", "grants"): _GRANTS,
    ("product", "variants"): Held(
        table=tables.variants,
        order=("sku", "variant_id"),
        further=tables.prices,
        optional_field="unit_price_micro",
    ),
    ("order", "lines"): Held(order=("line_number",), further=tables.order_tax_lines),
    ("payment", "captures"): Held(order=("captured_at", "payment_capture_id")),
    ("payment", "disputes"): Held(order=("opened_at", "payment_dispute_id")),
    ("payment", "movements"): Held(order=("moved_at", "payment_movement_id")),
}
"""By aggregate type and field."""


def _mapping(state_type: type[AggregateState]) -> AggregateMapping:
    """Return the mapping that follows from the state: tables and columns carry the names of its types and fields."""
    hints = get_type_hints(state_type)
    lists = [name for name in state_type.__struct_fields__ if get_origin(hints[name]) is list]
    return AggregateMapping(
        state_type=state_type,
        table=_table(f"{state_type.AGGREGATE_TYPE}s"),
        children=tuple(_child(state_type, field, get_args(hints[field])[0]) for field in lists),
    )


def _child(state_type: type[AggregateState], field: str, value_type: type[Value]) -> ChildMapping:
    held = HELD.get((state_type.AGGREGATE_TYPE, field), Held())
    first = held.table if held.table is not None else _table(f"{state_type.AGGREGATE_TYPE}_{field}")
    parts = [ChildTable(table=first, root_id=state_type.ID_FIELD)]
    if held.further is not None:
        further = ChildTable(table=held.further, root_id=state_type.ID_FIELD, optional_field=held.optional_field)
        parts.append(further)
    return ChildMapping(
        field=field,
        value_type=value_type,
        key=value_type.KEY,
        tables=tuple(parts),
        order=held.order or value_type.KEY,
    )


def _table(name: str) -> Table:
    return tables.metadata.tables[f"{tables.SCHEMA}.{name}"]


MAPPINGS: dict[type[AggregateState], AggregateMapping] = {
    state_type: _mapping(state_type) for state_type in STATE_TYPES.values()
}
"""Tables by state type. Columns have the names of the state's fields, so the mapping is short."""
