"""Which tests a run takes, and in which order; used by `tests/conftest.py`.

Belongs here: the turns of similar tests, the order of modules. Does not belong here: fixtures.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

WITHOUT_SERVERS = {"unit", "architecture"}
TURNS_MAX = 6
"""Runs of `make test`, with consecutive seeds, after which every test was run."""
SEEDS = math.lcm(*range(1, TURNS_MAX + 1))
"""Seeds after which the turns repeat themselves."""
USUAL_SECONDS = 5.0


def take_turns(items: list[pytest.Item], *, chosen: str, seed: int) -> None:
    """Let each run take a part of the tests that are marked `in_turn`, by its seed; a run of the long forms, all.

    Those of one module are of a kind, and those of several modules with the same `in_turn(kind)`. There are as many
    turns as tests of the kind, but at least two and at most six: of two or more at least one is in every run. Six runs
    of `make test` with consecutive seeds run all in the time of one. A failure names its seed.

    Which test has which turn is chosen so that all runs take about the same time: the slowest first, each where the
    least is to do until then. `in_turn(seconds=...)` says what a test takes, where that is much.
    """
    loads = [0.0] * SEEDS
    for tests in _kinds(items):
        turns = min(max(len(tests), 2), TURNS_MAX)
        for begin in range(0, len(tests), turns):
            free = list(range(turns))
            for item in tests[begin : begin + turns]:
                turn = min(free, key=lambda number: max(loads[number::turns]))
                free.remove(turn)
                loads[turn::turns] = [load + _seconds(item) for load in loads[turn::turns]]
                if chosen == "long" or (chosen == "not long" and seed % turns != turn):
                    item.add_marker(pytest.mark.long)


def _kinds(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """Return the tests of each kind; kinds and tests with the slowest first."""
    kinds: dict[object, list[pytest.Item]] = {}
    for item in items:
        turn = item.get_closest_marker("in_turn")
        if turn and not item.get_closest_marker("long"):
            kinds.setdefault(turn.args[0] if turn.args else item.path, []).append(item)
    ordered = [sorted(tests, key=_seconds, reverse=True) for tests in kinds.values()]
    return sorted(ordered, key=lambda tests: _seconds(tests[0]), reverse=True)


def _seconds(item: pytest.Item) -> float:
    turn = item.get_closest_marker("in_turn")
    return float(turn.kwargs.get("seconds", USUAL_SECONDS)) if turn else 0.0


def longest_first(items: list[pytest.Item]) -> None:
    """Order the modules: first those that may take long by their time limit, last those without a server.

    A worker takes a whole module at a time, so that its fixtures are made once. A long module that began last would
    leave the other workers idle.
    """
    limits: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0), limit.args[0] if limit else 0)

    def rank(item: pytest.Item) -> tuple[bool, float]:
        return not WITHOUT_SERVERS.isdisjoint(item.path.parts), -limits[item.path]

    items.sort(key=rank)
