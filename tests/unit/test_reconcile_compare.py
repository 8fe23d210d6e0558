"""Every kind of damage is found and named exactly; none is invented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from contracts.verdicts import DifferenceClass
from reconcile.compare import Limits, Outcome, compare
from reconcile.scratch import scratch, table
from reconcile.shapes import BIGINT, TIMESTAMP, VARCHAR, Column, Shape

SHAPE = Shape(
    name="orders",
    key=("order_id",),
    columns=(
        Column(name="merchant_id", type=VARCHAR),
        Column(name="currency", type=VARCHAR),
        Column(name="status", type=VARCHAR),
        Column(name="total_minor", type=BIGINT),
        Column(name="tax_minor", type=BIGINT),
        Column(name="placed_at", type=TIMESTAMP),
        Column(name="version", type=BIGINT),
    ),
    day="placed_at",
    currency="currency",
    version="version",
)
Orders = dict[str, dict[str, Any]]


def orders(count: int = 20) -> Orders:
    """Return `count` orders of two merchants over three days."""
    return {
        f"order-{number:02}": {
            "order_id": f"order-{number:02}",
            "merchant_id": f"merchant-{number % 2}",
            "currency": "GBP",
            "status": "placed",
            "total_minor": 1000 + number,
            "tax_minor": 100 + number,
            "placed_at": f"2011-04-0{1 + number % 3}T23:59:59Z",
            "version": 2,
        }
        for number in range(count)
    }


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with a scratch catalog."""
    with duckdb.connect() as opened, scratch(opened) as ready:
        yield ready


def run(connection: duckdb.DuckDBPyConnection, left: list[dict[str, Any]], right: list[dict[str, Any]]) -> Outcome:
    """Compare two lists of orders."""
    for name, rows in (("left", left), ("right", right)):
        columns = ", ".join(f"{column} {SHAPE.type_of(column)}" for column in SHAPE.names)
        connection.execute(f"create or replace table {table(name)} ({columns})")
        for row in rows:
            values = [row[column] for column in SHAPE.names]
            connection.execute(f"insert into {table(name)} values ({', '.join('?' * len(values))})", values)
    return compare(connection, SHAPE, table("left"), table("right"))


def changed(rows: Orders, key: str, **values: object) -> Orders:
    """Return a copy of `rows` with one row changed."""
    return {**rows, key: {**rows[key], **values}}


def test_equal_sides_are_equal_with_counts(connection: duckdb.DuckDBPyConnection) -> None:
    left = orders()
    outcome = run(connection, list(left.values()), list(reversed(left.values())))
    assert (outcome.compared, outcome.differences, outcome.segments_compared) == (20, 0, 6)
    pod = outcome.levels[0]
    assert pod.is_equal and pod.left_rows == pod.right_rows == 20
    assert pod.left_sums == pod.right_sums == {"total_minor": 20190, "tax_minor": 2190}


def test_nothing_on_both_sides_compares_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    outcome = run(connection, [], [])
    assert (outcome.compared, outcome.differences) == (0, 0)


@pytest.mark.parametrize(
    ("change", "kind", "column", "left", "right", "difference"),
    [
        ({"total_minor": 1004}, DifferenceClass.AMOUNT, "total_minor", 1003, 1004, 1),
        ({"tax_minor": 102}, DifferenceClass.TAX, "tax_minor", 103, 102, -1),
        ({"currency": "EUR"}, DifferenceClass.CURRENCY, "currency", "GBP", "EUR", None),
        ({"version": 1}, DifferenceClass.STALE, "version", 2, 1, -1),
        ({"version": 3}, DifferenceClass.DIFFERENT, "version", 2, 3, 1),
        ({"status": "cancelled"}, DifferenceClass.DIFFERENT, "status", "placed", "cancelled", None),
        ({"status": None}, DifferenceClass.DIFFERENT, "status", "placed", None, None),
        ({"total_minor": None}, DifferenceClass.AMOUNT, "total_minor", 1003, None, None),
        (
            {"placed_at": "2011-04-01T23:59:59.000001Z"},
            DifferenceClass.DIFFERENT,
            "placed_at",
            "2011-04-01T23:59:59.000000Z",
            "2011-04-01T23:59:59.000001Z",
            None,
        ),
    ],
)
def test_one_changed_column_is_named_with_both_values(
    connection: duckdb.DuckDBPyConnection,
    change: dict[str, object],
    kind: DifferenceClass,
    column: str,
    left: object,
    right: object,
    difference: int | None,
) -> None:
    rows = orders()
    outcome = run(connection, list(rows.values()), list(changed(rows, "order-03", **change).values()))
    assert outcome.classes == {kind: 1}
    (found,) = outcome.sample
    assert (found.key, found.kind, found.merchant_id, found.day) == (("order-03",), kind, "merchant-1", "2011-04-01")
    (value,) = found.columns
    assert (value.column, value.left, value.right, value.difference) == (column, left, right, difference)
    assert outcome.segments_different in (1, 2)


def test_null_is_not_zero(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders()
    left = changed(rows, "order-00", tax_minor=0)
    right = changed(rows, "order-00", tax_minor=None)
    assert run(connection, list(left.values()), list(right.values())).classes == {DifferenceClass.TAX: 1}
    assert run(connection, list(right.values()), list(right.values())).classes == {}


def test_errors_that_cancel_in_every_sum_are_both_found(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders()
    # order-00 and order-06 are of one merchant, day and currency.
    right = changed(changed(rows, "order-00", total_minor=1001), "order-06", total_minor=1005)
    outcome = run(connection, list(rows.values()), list(right.values()))
    assert outcome.classes == {DifferenceClass.AMOUNT: 2}
    segment = outcome.levels[1]
    assert segment.left_sums == segment.right_sums and segment.left_rows == segment.right_rows
    assert not segment.is_equal and outcome.segments_different == 1


def test_swapped_contents_of_two_keys_are_found(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders()
    one, other = rows["order-00"], rows["order-06"]
    right = {**rows, "order-00": {**other, "order_id": "order-00"}, "order-06": {**one, "order_id": "order-06"}}
    outcome = run(connection, list(rows.values()), list(right.values()))
    assert outcome.classes == {DifferenceClass.AMOUNT: 2}


def test_missing_and_extra_keys_carry_what_the_sum_is_off_by(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders()
    left = {key: row for key, row in rows.items() if key != "order-05"}
    right = {key: row for key, row in rows.items() if key != "order-04"}
    outcome = run(connection, list(left.values()), list(right.values()))
    assert outcome.classes == {DifferenceClass.MISSING: 1, DifferenceClass.EXTRA: 1}
    assert outcome.compared == 20
    by_kind = {difference.kind: difference for difference in outcome.sample}
    missing, extra = by_kind[DifferenceClass.MISSING], by_kind[DifferenceClass.EXTRA]
    assert missing.key == ("order-04",) and extra.key == ("order-05",)
    assert [(c.column, c.left, c.right, c.difference) for c in missing.columns] == [
        ("total_minor", 1004, None, -1004),
        ("tax_minor", 104, None, -104),
    ]
    assert [(c.left, c.right, c.difference) for c in extra.columns] == [(None, 1005, 1005), (None, 105, 105)]


def test_a_key_twice_is_a_duplicate_and_nothing_else(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders()
    outcome = run(connection, list(rows.values()), [*rows.values(), rows["order-07"]])
    assert outcome.classes == {DifferenceClass.DUPLICATE: 1}
    assert outcome.compared == 20 and outcome.sample[0].key == ("order-07",)


def test_a_key_twice_with_other_content_is_counted_once(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders()
    second = {**rows["order-07"], "total_minor": 1}
    outcome = run(connection, list(rows.values()), [*rows.values(), second])
    assert outcome.classes == {DifferenceClass.DUPLICATE: 1}


def test_an_empty_copy_misses_everything(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders()
    outcome = run(connection, list(rows.values()), [])
    assert outcome.classes == {DifferenceClass.MISSING: 20} and outcome.compared == 20


def test_a_row_without_key_is_extra(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders()
    outcome = run(connection, list(rows.values()), [*rows.values(), {**rows["order-01"], "order_id": None}])
    assert outcome.classes == {DifferenceClass.EXTRA: 1} and outcome.sample[0].key == (None,)


def test_the_sample_is_bounded_and_shows_every_class(connection: duckdb.DuckDBPyConnection) -> None:
    rows = orders(200)
    right = {key: {**row, "total_minor": 0} for key, row in list(rows.items())[:150]}
    right["order-10"] = {**rows["order-10"], "currency": "EUR"}
    run(connection, list(rows.values()), list(right.values()))
    outcome = compare(connection, SHAPE, table("left"), table("right"), Limits(sample=6, segments=2))
    assert outcome.classes == {DifferenceClass.MISSING: 50, DifferenceClass.CURRENCY: 1, DifferenceClass.AMOUNT: 149}
    assert len(outcome.sample) == 6 and {d.kind for d in outcome.sample} == set(outcome.classes)
    assert len(outcome.levels) == 3
