"""The rule for amounts that no event explains, in SQL (which aggregates are suspect) and in Python: one verdict."""

from __future__ import annotations

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from derived.unexplained import ADDING, MOVING, is_unexplained, unexplained_sql

CONSTANTS = st.none() | st.integers(1, 2)
PARTS = st.none() | st.lists(st.integers(1, 3), max_size=4).map(sorted)
EVENT_TYPES = st.sampled_from((*ADDING, *MOVING, "payment_refunded", "order_fulfilled"))
CASES = st.tuples(EVENT_TYPES, CONSTANTS, CONSTANTS, PARTS, PARTS)
VERDICT = unexplained_sql(("was_constant", "constant"), ("was_parts", "parts"), "event_type")

Case = tuple[str, int | None, int | None, list[int] | None, list[int] | None]


def by_sql(cases: list[Case]) -> list[bool]:
    names = ("event_type", "was_constant", "constant", "was_parts", "parts")
    kinds = ("varchar[]", "ubigint[]", "ubigint[]", "ubigint[][]", "ubigint[][]")
    columns = ", ".join(f"unnest(?::{kind}) as {name}" for name, kind in zip(names, kinds, strict=True))
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"select coalesce({VERDICT}, false) from (select {columns})",
            [list(column) for column in zip(*cases, strict=True)],
        ).fetchall()
    return [bool(verdict) for (verdict,) in rows]


@settings(deadline=None, max_examples=50)
@given(st.lists(CASES, min_size=1, max_size=200))
def test_sql_and_python_say_the_same_of_the_same_amounts(cases: list[Case]) -> None:
    expected = [
        is_unexplained(event_type, (was_constant, was_parts), (constant, parts))
        for event_type, was_constant, constant, was_parts, parts in cases
    ]
    assert by_sql(cases) == expected


def test_a_part_that_is_there_twice_counts_twice() -> None:
    before, doubled = (1, [5]), (1, [5, 5])
    assert is_unexplained("payment_refunded", before, doubled) and is_unexplained("payment_refunded", doubled, before)
    assert not is_unexplained("payment_captured", before, doubled)
    assert is_unexplained("payment_captured", before, (1, [5, 5, 5]))
    assert is_unexplained("payment_captured", doubled, (1, [5, 6, 7]))
