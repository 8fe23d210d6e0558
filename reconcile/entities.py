"""The tables of an aggregate, derived from the event contracts, so that every field is compared.

Belongs here: which pod tables hold the root and the parts, their keys and their segments. Does not belong here: reading
either side (`reconcile/oltp_side.py`, `reconcile/lake_side.py`).
"""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache

import msgspec

from contracts.events import STATE_TYPES
from contracts.events.common import AggregateState
from reconcile.shapes import BIGINT, BOOLEAN, TIMESTAMP, VARCHAR, Column, Shape, belongs_to

AGGREGATE_ID = "aggregate_id"
"""Key column of every root, and first key column of every part: the aggregate's id from the event's envelope."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A list field in an aggregate's state, whose elements are rows of a table in OLTP."""

    field: str
    key: tuple[str, ...]
    source: str
    """The table in OLTP, or a subquery that returns the part's fields by their names."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where OLTP holds an aggregate."""

    table: str
    day: str | None = None
    parts: tuple[Part, ...] = ()


ORDER_LINES = """(
    select l.*, t.jurisdiction, t.tax_category, t.rate_ppm, t.is_tax_inclusive, t.taxable_minor, t.tax_minor
    from oltp.order_lines as l left join oltp.order_tax_lines as t on t.order_line_id = l.order_line_id
)"""
VARIANTS = """(
    select v.*, p.unit_price_micro
    from oltp.variants as v
    left join oltp.merchants as m on m.merchant_id = v.merchant_id
    left join oltp.prices as p on p.variant_id = v.variant_id and p.currency = m.currency
)"""
"""A variant's price is the one in the merchant's currency."""

OLTP_TABLE = re.compile(r"\boltp\.\w+")

READ_OTHERWISE = {("order", "lines"): ORDER_LINES, ("product", "variants"): VARIANTS}
"""Parts, by aggregate type and field, that are not one table named after them."""


def _source(state: type[AggregateState]) -> Source:
    hints = typing.get_type_hints(state)
    lists = [name for name in state.__struct_fields__ if typing.get_origin(hints[name]) is list]
    name = state.AGGREGATE_TYPE
    return Source(
        table=f"oltp.{name}s",
        day=state.MOMENT_FIELDS[0] if state.MOMENT_FIELDS else None,
        parts=tuple(
            Part(
                field=field,
                key=typing.get_args(hints[field])[0].KEY,
                source=READ_OTHERWISE.get((name, field), f"oltp.{name}_{field}"),
            )
            for field in lists
        ),
    )


SOURCES: dict[str, Source] = {name: _source(state) for name, state in STATE_TYPES.items()}
"""Aggregate type -> source. Tables are named after the type and its fields; a test compares them with OLTP's."""


@dataclass(frozen=True, kw_only=True)
class Entity:
    """One compared table of an aggregate: its root (`field` is None) or one of its parts."""

    aggregate_type: str
    field: str | None
    source: str
    id_field: str
    """The column of `source` that holds the aggregate's id."""
    fields: tuple[Column, ...]
    """The fields of the event's payload."""
    shape: Shape


def fields_of(struct: type[msgspec.Struct]) -> tuple[Column, ...]:
    """Return the scalar fields of a payload struct as columns, without its lists."""
    hints = typing.get_type_hints(struct)
    columns = (
        (field.name, _duckdb_type(hints[field.name]), _default_text(field)) for field in msgspec.structs.fields(struct)
    )
    return tuple(Column(name=name, type=kind, default=default) for name, kind, default in columns if kind is not None)


def part_type(state: type[AggregateState], field: str) -> type[msgspec.Struct]:
    """Return the struct type of the elements of a list field."""
    (element,) = typing.get_args(typing.get_type_hints(state)[field])
    return typing.cast("type[msgspec.Struct]", element)


@cache
def entities_of(aggregate_type: str) -> tuple[Entity, ...]:
    """Return the root and the parts of an aggregate type, the root first."""
    state, source = STATE_TYPES[aggregate_type], SOURCES[aggregate_type]
    return (_root(aggregate_type, state, source), *(_part(aggregate_type, state, part) for part in source.parts))


def tables_in(query: str) -> frozenset[str]:
    """Return the tables of OLTP that a query reads, each with its schema."""
    return frozenset(OLTP_TABLE.findall(query))


@cache
def tables_of(aggregate_type: str) -> frozenset[str]:
    """Return the tables of OLTP from which the state of an aggregate type is read."""
    return frozenset().union(*(tables_in(entity.source) for entity in entities_of(aggregate_type)))


def _root(aggregate_type: str, state: type[AggregateState], source: Source) -> Entity:
    fields = fields_of(state)
    # In OLTP, `events` is the version, which is the number of events that must exist; in the lake it is their count.
    columns = (*fields, Column(name="events", type=BIGINT))
    has_currency = any(column.name == "currency" for column in fields)
    return Entity(
        aggregate_type=aggregate_type,
        field=None,
        source=source.table,
        id_field=state.ID_FIELD,
        fields=fields,
        shape=Shape(
            name=source.table.removeprefix("oltp."),
            key=(AGGREGATE_ID,),
            columns=columns,
            day=source.day,
            currency="currency" if has_currency else None,
            version="version",
            aggregate=belongs_to(aggregate_type, AGGREGATE_ID),
        ),
    )


def _part(aggregate_type: str, state: type[AggregateState], part: Part) -> Entity:
    fields = fields_of(part_type(state, part.field))
    name = {ORDER_LINES: "order_lines", VARIANTS: "variants"}.get(part.source, part.source.removeprefix("oltp."))
    merchant = Column(name="merchant_id", type=VARCHAR)
    return Entity(
        aggregate_type=aggregate_type,
        field=part.field,
        source=part.source,
        id_field=state.ID_FIELD,
        fields=fields,
        shape=Shape(
            name=name,
            key=(AGGREGATE_ID, *part.key),
            columns=(merchant, *fields),
            aggregate=belongs_to(aggregate_type, AGGREGATE_ID),
        ),
    )


def _default_text(field: msgspec.structs.FieldInfo) -> str | None:
    """Return the default as JSON text; None when the field is required or its default is null."""
    if field.default is None or field.default is msgspec.NODEFAULT:
        return None
    return msgspec.json.encode(field.default).decode().strip('"')


def _duckdb_type(hint: object) -> str | None:
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    kinds = [option for option in options if option is not type(None)]
    if typing.get_origin(kinds[0]) is list:
        return None
    kind = typing.cast("type[object]", kinds[0])
    for base, name in ((bool, BOOLEAN), (int, BIGINT), (datetime, TIMESTAMP), (StrEnum, VARCHAR), (str, VARCHAR)):
        if issubclass(kind, base):
            return name
    raise TypeError(f"a payload field of type {kind} cannot be compared")
