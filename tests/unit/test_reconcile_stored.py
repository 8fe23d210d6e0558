"""Stored histories as they were at the newest complete build, though a later build has begun to write."""

from __future__ import annotations

import duckdb

from reconcile.pairs import PAIRS
from reconcile.stored_pairs import STORED, as_of
from reconcile.versions import Stand

STAND = Stand(cuts={"pod1": 7, "pod2": 4}, number=1, is_newest=False)
(SHAPE,) = next(pair for pair in PAIRS if pair.name == "lake_warehouse.fulfillments_history").shapes
Row = tuple[str, int, str | None, int | None]


def seen(*rows: Row) -> list[Row]:
    with duckdb.connect() as connection:
        # As in a run, where the tables of a comparison are in a catalog of their own.
        connection.execute("attach ':memory:' as scratch")
        connection.execute(
            f"create table {STORED} (id varchar, valid_from_cut bigint, valid_to_pod varchar, valid_to_cut bigint)"
        )
        connection.executemany(f"insert into {STORED} values (?, ?, ?, ?)", rows)
        return connection.execute(f"from {as_of(STAND, 7, SHAPE)} order by all").fetchall()


def test_what_a_later_build_has_written_is_not_there_yet() -> None:
    ended_before: Row = ("a", 3, "pod1", 7)
    assert seen(ended_before, ("b", 3, "pod1", 8), ("c", 3, "pod2", 5), ("d", 8, None, None)) == [
        ended_before,
        ("b", 3, None, None),
        ("c", 3, None, None),
    ]


def test_a_part_of_an_end_that_no_build_wrote_is_seen() -> None:
    damaged: list[Row] = [("a", 3, "x", None), ("b", 3, None, 9)]
    assert seen(*damaged) == damaged
