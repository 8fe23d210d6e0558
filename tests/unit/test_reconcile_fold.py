"""Folding the lake's events: exactly what a cut or a vector of positions includes, and payloads taken strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import duckdb
import pytest

from contracts.events.upcasting import register
from contracts.scope import Scope
from reconcile.compare import Limits
from reconcile.context import ReconcileContext
from reconcile.lake_side import (
    PartitionPosition,
    at_cut,
    at_positions,
    event_duplicates,
    fold,
    in_scope,
    parked_aggregates,
)
from reconcile.pair import PodRun
from reconcile.scoping import write_ids
from reconcile.scratch import scratch, table

PARKED = """create table lake.raw.parked
    (pod varchar, aggregate_key varchar, cut bigint, "position" bigint, parked_at timestamptz, error varchar)"""
EVENTS = """
create table lake.raw.events (
    pod varchar, cut bigint, "partition" integer, "position" bigint, chunk integer, event_id varchar,
    merchant_id varchar, aggregate_type varchar, aggregate_id varchar, aggregate_version bigint, payload varchar,
    schema_version integer default 1, directory_epoch bigint default 1, epoch varchar default '1'
)
"""
POSITIONS = iter(range(1, 10_000))


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A lake in memory, with a scratch catalog beside it."""
    with duckdb.connect() as opened, scratch(opened) as ready:
        register(opened)
        ready.execute("attach ':memory:' as lake")
        ready.execute("create schema lake.raw")
        ready.execute(EVENTS)
        ready.execute(PARKED)
        yield ready
        ready.execute("detach lake")


def add(
    connection: duckdb.DuckDBPyConnection,
    key: str,
    version: int,
    cut: int,
    *,
    partition: int = 0,
    chunk: int = 0,
    pod: str = "pod1",
    directory_epoch: int = 1,
    **state: object,
) -> None:
    """Append one adjustment's event."""
    values = {"merchant_id": "m", "adjustment_id": key, "version": version, "amount_minor": 100 * version, **state}
    payload = json.dumps({"state": values, "changed": []})
    number = next(POSITIONS)
    connection.execute(
        "insert into lake.raw.events values (?, ?, ?, ?, ?, ?, 'm', 'adjustment', ?, ?, ?, 1, ?, '1')",
        [pod, cut, partition, number, chunk, f"event-{number}", key, version, payload, directory_epoch],
    )


def states(connection: duckdb.DuckDBPyConnection, columns: str = "version, events") -> list[tuple[object, ...]]:
    """Return columns of the folded adjustments, by id."""
    return connection.execute(f"select aggregate_id, {columns} from {table('lake_adjustments')} order by 1").fetchall()


def test_a_cut_includes_itself_and_nothing_after(connection: duckdb.DuckDBPyConnection) -> None:
    add(connection, "a", 1, cut=1)
    add(connection, "a", 2, cut=3)
    add(connection, "b", 1, cut=2)
    add(connection, "c", 1, cut=1, pod="pod2")
    fold(connection, at_cut("pod1", 2), "adjustment")
    assert states(connection) == [("a", 1, 1), ("b", 1, 1)]
    fold(connection, at_cut("pod1", 3), "adjustment")
    assert states(connection, "version, events, amount_minor") == [("a", 2, 2, 200), ("b", 1, 1, 100)]
    assert event_duplicates(connection, Limits(), "adjustment").classes == {}


def test_of_one_version_that_of_the_later_residence_stands(connection: duckdb.DuckDBPyConnection) -> None:
    for version, directory_epoch, cut in ((1, 1, 1), (2, 3, 1), (2, 1, 2), (3, 1, 2)):
        add(connection, "a", version, cut=cut, directory_epoch=directory_epoch, amount_minor=directory_epoch)
    for at in (1, 2):
        fold(connection, at_cut("pod1", at), "adjustment")
        assert states(connection, "version, directory_epoch, amount_minor") == [("a", 2, 3, 3)]


def test_positions_cut_every_partition_where_it_stands_even_inside_a_cut(connection: duckdb.DuckDBPyConnection) -> None:
    for partition, key in ((0, "a"), (1, "b"), (2, "c")):
        add(connection, key, 1, cut=1, partition=partition)
        add(connection, key, 2, cut=2, partition=partition, chunk=0)
        add(connection, key, 3, cut=2, partition=partition, chunk=1)
        add(connection, key, 4, cut=3, partition=partition)
    positions = [PartitionPosition(partition=0, cut=3), PartitionPosition(partition=1, cut=1, chunk=1)]
    fold(connection, at_positions(connection, "pod1", positions), "adjustment")
    # Partition 2 has no position: nothing of it was applied.
    assert states(connection) == [("a", 4, 4), ("b", 2, 2)]


def test_an_event_twice_is_counted_once_and_named(connection: duckdb.DuckDBPyConnection) -> None:
    add(connection, "a", 1, cut=1)
    add(connection, "a", 2, cut=2)
    add(connection, "a", 2, cut=2)
    fold(connection, at_cut("pod1", 2), "adjustment")
    assert states(connection) == [("a", 2, 2)]
    outcome = event_duplicates(connection, Limits(), "adjustment")
    assert [(d.key, d.kind.value) for d in outcome.sample] == [(("a", "2"), "duplicate")]


@pytest.mark.parametrize(
    ("value", "taken"),
    [(12, 12), (-9_007_199_254_740_993, -9_007_199_254_740_993), (12.0, None), (12.4, None), ("x", None), (None, None)],
)
def test_numbers_are_whole_or_they_are_nothing(
    connection: duckdb.DuckDBPyConnection, value: object, taken: int | None
) -> None:
    add(connection, "a", 1, cut=1, amount_minor=value)
    fold(connection, at_cut("pod1", 1), "adjustment")
    assert states(connection, "amount_minor") == [("a", taken)]


def test_a_payload_that_is_no_json_is_a_row_of_nulls_not_an_error(connection: duckdb.DuckDBPyConnection) -> None:
    add(connection, "a", 1, cut=1)
    connection.execute('update lake.raw.events set payload = \'{"state": {"version": "one", "currency": 5}}\'')
    fold(connection, at_cut("pod1", 1), "adjustment")
    assert states(connection, "version, events, amount_minor") == [("a", None, 1, None)]


def test_parked_aggregates_are_told_with_their_first_reason_and_since_when(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    early, late = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    rows = [
        ("pod1", "m/order/o1/with/strokes", 3, 1, late, "the second"),
        ("pod1", "m/order/o1/with/strokes", 2, 9, early, "the first"),
        ("pod2", "x/y/z", 1, 1, early, "another pod's"),
    ]
    connection.executemany("insert into lake.raw.parked values (?, ?, ?, ?, ?, ?)", rows)
    (found,) = parked_aggregates(connection, "pod1")
    assert (found.aggregate_type, found.aggregate_id) == ("order", "o1/with/strokes")
    assert (found.events, found.parked_at, found.error) == (2, early, "the first")


def test_a_copy_that_is_read_twice_is_compared_with_events_as_of_its_second_reading(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """A comparison that runs out of memory begins again, and the copy may have applied more by then."""
    scope = Scope(since_cut=0, through_cut=9, ids=frozenset({"a"}), id_count=1)
    run = PodRun(context=cast("ReconcileContext", None), connection=connection, pod="pod1", cut=9, scope=scope)
    write_ids(connection, "pod1", scope.ids)
    for version in (1, 2):
        add(connection, "a", version, cut=version)
        add(connection, "b", version, cut=version)
        positions = [PartitionPosition(partition=0, cut=version)]
        fold(connection, in_scope(run, at_positions(connection, "pod1", positions), "search_events"), "adjustment")
        assert states(connection) == [("a", version, version)]
    # The pairs that compare as of the run's cut share what was read once.
    fold(connection, in_scope(run, at_cut("pod1", 9)), "adjustment")
    add(connection, "a", 3, cut=3)
    fold(connection, in_scope(run, at_cut("pod1", 9)), "adjustment")
    assert states(connection) == [("a", 2, 2)]
