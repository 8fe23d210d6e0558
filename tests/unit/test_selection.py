"""Each run takes a part of the tests that are one of several of their kind; six runs in a row take all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.selection import TURNS_MAX, longest_first, take_turns


class Item:
    """What the selection reads of a collected test."""

    def __init__(self, path: str, *marks: pytest.MarkDecorator) -> None:
        self.path = Path(path)
        self.marks = [mark.mark for mark in marks]

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self.marks if mark.name == name), None)

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.append(mark.mark)


def taken(seed: int, *marks: pytest.MarkDecorator, modules: int = 1, tests: int = 6) -> set[int]:
    items = [Item(f"tests/integration/test_{number % modules}.py", *marks) for number in range(tests)]
    take_turns(cast("list[Any]", items), chosen="not long", seed=seed)
    return {number for number, item in enumerate(items) if item.get_closest_marker("long") is None}


def test_six_runs_in_a_row_take_all_of_a_kind_and_each_a_sixth() -> None:
    for mark, modules in ((pytest.mark.in_turn, 1), (pytest.mark.in_turn("moved"), 3)):
        runs = [taken(seed, mark, modules=modules, tests=12) for seed in range(7, 7 + TURNS_MAX)]
        assert [len(run) for run in runs] == [2] * TURNS_MAX
        assert set().union(*runs) == set(range(12))


def test_of_fewer_than_six_each_run_takes_one() -> None:
    for tests in (2, 3, 5):
        runs = [taken(seed, pytest.mark.in_turn, tests=tests) for seed in range(7, 7 + tests)]
        assert [len(run) for run in runs] == [1] * tests
        assert set().union(*runs) == set(range(tests))


def test_one_alone_is_in_every_second_run_and_those_without_turns_in_all() -> None:
    assert taken(1, pytest.mark.in_turn, tests=1) | taken(2, pytest.mark.in_turn, tests=1) == {0}
    assert taken(1, pytest.mark.in_turn, tests=1) & taken(2, pytest.mark.in_turn, tests=1) == set()
    assert taken(1, tests=4) == set(range(4))


def test_slow_tests_of_several_kinds_have_different_turns() -> None:
    seconds = {"a": [90, 80, 5, 5, 5, 5], "b": [70, 5, 5], "c": [60, 50], "d": [75, 65, 40, 30, 20, 10]}
    costs = []
    for seed in range(12):
        items = [
            Item(f"tests/test_{kind}.py", pytest.mark.in_turn(kind, seconds=each))
            for kind, several in seconds.items()
            for each in several
        ]
        take_turns(cast("list[Any]", items), chosen="not long", seed=seed)
        turns = [item.get_closest_marker("in_turn") for item in items if item.get_closest_marker("long") is None]
        costs.append(sum(turn.kwargs["seconds"] for turn in turns if turn))
    # The longest of all kinds in one run would be 295, and the shortest 70.
    assert max(costs) <= 220, costs


def test_modules_that_may_take_long_begin_first_and_those_without_servers_last() -> None:
    items = [
        Item("tests/unit/test_slow.py", pytest.mark.timeout(900)),
        Item("tests/integration/test_plain.py"),
        Item("tests/integration/test_long.py"),
        Item("tests/integration/test_long.py", pytest.mark.timeout(600)),
        Item("tests/scenario/test_longest.py", pytest.mark.timeout(900)),
    ]
    longest_first(cast("list[Any]", items))
    assert [item.path.stem for item in items] == ["test_longest", "test_long", "test_long", "test_plain", "test_slow"]
