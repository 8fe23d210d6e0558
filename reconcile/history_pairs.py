"""lake <-> warehouse, one pair per stored history: every version of every aggregate, with all columns.

Belongs here: what a history must hold. Does not belong here: which versions there are (`reconcile/versions.py`), how
stored tables are compared (`reconcile/stored_pairs.py`).
"""

from __future__ import annotations

from contracts.events import STATE_TYPES
from reconcile.entities import Entity, entities_of
from reconcile.pair import Pair, PodRun
from reconcile.shapes import TIMESTAMP, Column, Shape, belongs_to, number, quoted, text
from reconcile.stored_pairs import EXPECTED, STORED, compare_stored, stored_pair
from reconcile.versions import VERSIONS, write_versions

OF_EVENT = (
    *text("event_type"),
    Column(name="occurred_at", type=TIMESTAMP),
    Column(name="recorded_at", type=TIMESTAMP),
    *number("directory_epoch"),
)
VALIDITY = (*number("valid_from_cut"), *text("valid_to_pod"), *number("valid_to_cut"))


def _as_text(entity: Entity) -> str:
    """Return a list column as JSON text with its fields in the contract's order, whatever their order is as stored."""
    assert entity.field is not None
    fields = ", ".join(f"{quoted(column.name)} := one.{quoted(column.name)}" for column in entity.fields)
    packed = f"list_transform({quoted(entity.field)}, lambda one: struct_pack({fields}))"
    return f"to_json({packed})::VARCHAR as {quoted(entity.field)}"


def _shape(aggregate_type: str) -> Shape:
    root, *lists = entities_of(aggregate_type)
    columns = (*root.fields, *text(*(entity.field or "" for entity in lists)), *OF_EVENT, *VALIDITY)
    return Shape(
        name=f"int_{aggregate_type}s_history",
        key=("event_id",),
        columns=columns,
        version="version",
        aggregate=belongs_to(aggregate_type, root.id_field),
    )


def _write(run: PodRun, aggregate_type: str) -> None:
    root, *lists = entities_of(aggregate_type)
    plain = ("event_id", *(column.name for column in (*root.fields, *OF_EVENT, *VALIDITY)))
    selected = ", ".join([*map(quoted, plain), *map(_as_text, lists)])
    for part in write_versions(run, aggregate_type):
        into = f"insert into {EXPECTED}" if part else f"create or replace table {EXPECTED} as"
        run.connection.execute(f"{into} select {selected} from {VERSIONS} where pod = $pod", {"pod": run.pod})
    history = f"lake.intermediate.int_{aggregate_type}s_history"
    rows = run.in_scope(f"(select * from {history} where pod = $pod)", root.id_field)
    run.connection.execute(f"create or replace table {STORED} as select {selected} from {rows}", {"pod": run.pod})


def _pair(aggregate_type: str) -> Pair:
    shape = _shape(aggregate_type)
    return stored_pair(
        f"{aggregate_type}s_history",
        shape,
        f"Every version of every {aggregate_type} with all its fields, and from which cut to which it holds.",
        lambda run: compare_stored(run, shape, lambda looked_at: _write(looked_at, aggregate_type)),
        whose=entities_of(aggregate_type)[0].id_field,
    )


HISTORY_PAIRS = tuple(_pair(aggregate_type) for aggregate_type in STATE_TYPES)
