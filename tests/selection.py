"""Which tests a run takes, and in which order; used by `tests/conftest.py`.

Belongs here: the turns of similar tests, the order of modules. Does not belong here: fixtures.
"""

from __future__ import annotations

from pathlib import Path

import pytest

WITHOUT_SERVERS = {"unit", "architecture"}
TURNS_MAX = 6
"""Runs of `make test`, with consecutive seeds, after which every test was run."""


def take_turns(items: list[pytest.Item], *, chosen: str, seed: int) -> None:
    """Let each run take a part of the tests that are marked `in_turn`, by its seed; a run of the long forms, all.

    Those of one module are of a kind, and those of several modules with the same `in_turn(kind)`. There are as many
    turns as tests of the kind, but at least two and at most six: of two or more at least one is in every run. Six runs
    of `make test` with consecutive seeds run all in the time of one. A failure names its seed.
    """
    kinds: dict[object, list[pytest.Item]] = {}
    for item in items:
        turn = item.get_closest_marker("in_turn")
        if turn and not item.get_closest_marker("long"):
            kinds.setdefault(turn.args[0] if turn.args else item.path, []).append(item)
    for place, tests in enumerate(kinds.values()):
        turns = min(max(len(tests), 2), TURNS_MAX)
        for number, item in enumerate(tests, start=place):
            if chosen == "long" or (chosen == "not long" and (seed + number) % turns):
                item.add_marker(pytest.mark.long)


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
