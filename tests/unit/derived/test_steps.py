"""What a step is checked for before a store applies it; and messages without secrets."""

from __future__ import annotations

import pytest

from contracts.errors import EpochChangedError
from derived.dsn import described, scrub
from derived.step_checks import check_expected, fresh_entries
from streams.projection import START, FencedError, Position
from tests.derived_work import EPOCH, FakePod, order

AT_ONE = Position(cut=1, chunk=0)


def test_a_partition_that_was_never_stored_stands_at_start() -> None:
    pod = FakePod()
    entries = pod.cut(order())
    check_expected(pod.step(entries), {})
    with pytest.raises(FencedError, match="stands at cut 0"):
        check_expected(pod.step(entries, expected={0: AT_ONE}, positions={0: AT_ONE}), {})


def test_a_moved_partition_fences() -> None:
    pod = FakePod()
    work = pod.step(pod.cut(order()))
    stored = dict.fromkeys(range(4), (EPOCH, START))
    check_expected(work, stored)
    with pytest.raises(FencedError, match="Partition 2 of pod pod1 stands at cut 1, chunk 0, not at cut 0"):
        check_expected(work, stored | {2: (EPOCH, AT_ONE)})


def test_partitions_that_the_step_does_not_move_may_stand_anywhere() -> None:
    pod = FakePod()
    work = pod.step(pod.cut(order()), expected={0: START}, positions={0: AT_ONE})
    elsewhere = (EPOCH, Position(cut=7, chunk=3))
    check_expected(work, {0: (EPOCH, START), 1: elsewhere})
    with pytest.raises(FencedError, match="Partition 0"):
        check_expected(work, {0: elsewhere, 1: elsewhere})


def test_another_databases_positions_are_not_continued() -> None:
    pod = FakePod()
    with pytest.raises(EpochChangedError, match="another"):
        check_expected(pod.step(pod.cut(order())), {0: ("another", START), 1: (None, START)})


@pytest.mark.parametrize(
    ("position", "kept"),
    [
        (START, [0, 1, 2]),
        (Position(cut=0, chunk=1), [1, 2]),
        (Position(cut=0, chunk=3), []),
        (AT_ONE, []),
        (Position(cut=1, chunk=1), []),
    ],
)
def test_entries_that_the_position_includes_are_no_news(position: Position, kept: list[int]) -> None:
    pod = FakePod(partitions=1, chunk_rows=1)
    work = pod.step(pod.cut(order(), order(), order()), expected={0: position})
    assert [entry.chunk for entry in fresh_entries(work)] == kept


def test_a_replay_brings_old_entries_on_purpose() -> None:
    pod = FakePod()
    entries = pod.cut(order())
    here = dict.fromkeys(range(4), AT_ONE)
    assert fresh_entries(pod.step(entries, expected=here, positions=here)) == []
    assert fresh_entries(pod.step(entries, expected=here, positions=here, released=["m1/order/1"])) == entries


def test_messages_hold_no_password_in_any_spelling() -> None:
    dsn = "postgresql://app:p%40ss@db.example:5433/lake"
    for secret in (dsn, "password=p@ss", "p%40ss"):
        assert "ss" not in scrub(RuntimeError(f"cannot reach {secret}\nand more"), dsn).replace("password", "")
    assert described(dsn) == "database lake at db.example:5433"
    assert described("no dsn") == "database ? at localhost:5432"
