"""The register of pairs is complete, and what it derives from the contracts is what OLTP really has."""

from __future__ import annotations

import typing
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from contracts.errors import InputError
from contracts.events import STATE_TYPES
from contracts.facts import FACTS
from contracts.ownership import COPIES
from oltp.store.tables import metadata
from reconcile.context import LoggedEntry
from reconcile.entities import SOURCES, entities_of
from reconcile.log_checksum import STORED_COLUMNS, entry_checksum
from reconcile.log_entries import ENTRIES_MAX, newest
from reconcile.oltp_side import select_entity
from reconcile.pairs import PAIRS, pairs_named
from reconcile.shapes import BIGINT, TIMESTAMP
from streams import codec

TABLES_APART = {
    # Not facts of aggregates: guards, propagation, counters with a pair of their own.
    "aggregate_roots",
    "aggregate_children",
    "allowed_transitions",
    "bypasses",
    "cuts",
    "epochs",
    "idempotency_keys",
    "provider_calls",
    "provider_notifications",
    "outbox",
    "outbox_floor",
    "residents",
    "stock_slots",
    "stock_slot_changes",
    # No facts of aggregates either: carts are compared by version vectors (`reconcile/cart_comparison.py`).
    "carts",
    "cart_orders",
    # Read together with the rows that they belong to.
    "order_tax_lines",
    "prices",
}


def test_every_aggregate_and_every_list_in_it_is_compared() -> None:
    assert set(SOURCES) == set(STATE_TYPES)
    for aggregate_type, state in STATE_TYPES.items():
        hints = typing.get_type_hints(state)
        lists = {name for name in state.__struct_fields__ if typing.get_origin(hints[name]) is list}
        assert {entity.field for entity in entities_of(aggregate_type)} == lists | {None}


def test_every_table_of_a_pod_is_compared() -> None:
    tables = {table.name for table in metadata.tables.values()}
    shapes = {entity.shape.name for aggregate_type in STATE_TYPES for entity in entities_of(aggregate_type)}
    assert tables - TABLES_APART == shapes


@pytest.mark.parametrize("aggregate_type", STATE_TYPES)
def test_fields_are_columns_of_their_tables(aggregate_type: str) -> None:
    for entity in entities_of(aggregate_type):
        if "(" not in entity.source:
            table = metadata.tables[entity.source]
            assert {column.name for column in entity.fields} <= set(table.columns.keys())
            assert entity.id_field in table.columns
        assert select_entity(entity).sql.count(f'"{entity.fields[0].name}"') >= 1


def test_types_are_whole_numbers_texts_moments_and_truths() -> None:
    order = entities_of("order")[0].shape
    assert order.type_of("total_minor") == BIGINT and order.type_of("placed_at") == TIMESTAMP
    assert order.type_of("customer_id") == "VARCHAR" and order.key == ("aggregate_id",)
    measures = {column.name for column in order.measures}
    assert {"total_minor", "rounding_micro", "events"} <= measures and "version" not in measures


def test_pairs_say_what_they_cannot_catch_and_how_late_their_copy_may_be() -> None:
    assert len({pair.name for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        assert pair.cannot_catch and pair.description and pair.shapes
        assert (pair.lag_seconds_max > 0) == (pair.copy is not None)


def test_every_copy_of_the_contract_has_a_pair_and_every_fact_is_compared() -> None:
    assert {copy.name for copy in COPIES} <= {pair.copy for pair in PAIRS}
    names = {pair.name for pair in PAIRS}
    assert {f"oltp_lake.{kind}" for fact in FACTS for kind in fact.aggregates} <= names


def test_pairs_are_found_by_name_and_by_family() -> None:
    assert [pair.name for pair in pairs_named(["stock_identity"])] == ["stock_identity"]
    assert len(pairs_named(["oltp_lake"])) == len(STATE_TYPES)
    with pytest.raises(InputError, match=r"There is no pair 'nonsense'; there are .*oltp_lake"):
        pairs_named(["nonsense"])


def events(rows: int, *, is_odd: bool = False) -> pa.Table:
    """Return stored columns of `rows` events, with nulls, beyond ASCII, and before 1970."""
    moment = datetime(1969, 12, 31, 23, 59, 59, 7, tzinfo=UTC)
    values = {
        field.name: [
            None if field.nullable and field.name in ("causation_id", "traceparent") and (number % 2 or is_odd)
            else number if pa.types.is_integer(field.type)
            else moment if pa.types.is_timestamp(field.type)
            else f"{field.name} ü {number}"
            for number in range(rows)
        ]
        for field in codec.STORED_SCHEMA
    }  # fmt: skip
    return pa.table(values, schema=codec.STORED_SCHEMA)


@pytest.mark.parametrize(("rows", "is_odd"), [(0, False), (1, False), (7, False), (3, True)])
def test_the_checksum_of_an_entry_is_that_of_its_publisher(rows: int, is_odd: bool) -> None:
    table = events(rows, is_odd=is_odd)
    assert tuple(codec.STORED_SCHEMA.names) == STORED_COLUMNS
    assert entry_checksum(table, "pod1/e/0/1/0") == codec.checksum(table, place="pod1/e/0/1/0")
    assert entry_checksum(table, "pod1/e/0/1/0") != entry_checksum(table, "pod1/e/0/1/1")
    index = STORED_COLUMNS.index("directory_epoch")
    first = table.set_column(index, codec.STORED_SCHEMA.field(index), pa.array([1] * rows, pa.int64()))
    assert entry_checksum(first, "pod1/e/0/1/0") == codec.checksum(first, place="pod1/e/0/1/0")


def logged(cut: int, stated_events: int = 1) -> LoggedEntry:
    """Return an entry that is never read."""
    return LoggedEntry(
        cut=cut, partition=0, chunk=0, epoch="e", stated_events=stated_events, stated_checksum="", fetch=lambda: None
    )


def test_the_newest_entries_are_read_back_in_whole_cuts_and_bounded() -> None:
    assert newest([]) == []
    entries = [logged(cut) for cut in range(1, ENTRIES_MAX + 100)]
    chosen = newest(entries)
    assert len(chosen) == ENTRIES_MAX and max(entry.cut for entry in chosen) == ENTRIES_MAX + 99
    # One cut is always looked at, however large.
    assert [entry.cut for entry in newest([logged(1), logged(2, stated_events=10**9)])] == [2]
