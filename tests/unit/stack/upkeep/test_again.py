"""How soon breaks of the warehouse's comparisons may be compared again: by what it takes, and by what it brings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest

from contracts.settings import Settings
from reconcile.connections import Connections
from stack.upkeep.again import CLOCKS_APART, LOOK_SECONDS, Again

AT = datetime(2026, 11, 30, 22, tzinfo=UTC)


@pytest.fixture
def again() -> Again:
    return Again(settings=cast("Settings", None), connections=Connections())


def test_rounds_rest_as_long_as_the_share_earns_what_they_took(again: Again) -> None:
    again.rest(100.0, 6.0, 0.15, has_ended=True, seconds_max=300.0)
    assert (again.may_at, again.may_follow_build_at) == pytest.approx((180.0, 180.0))
    again.rest(100.0, 0.0, 0.15, has_ended=True, seconds_max=300.0)
    assert again.may_at == 100.0 + LOOK_SECONDS


def test_builds_after_rounds_that_ended_nothing_are_followed_half_as_often_each_time(again: Again) -> None:
    paused = []
    for _ in range(5):
        again.rest(0.0, 3.0, 0.15, has_ended=False, seconds_max=300.0)
        paused.append(again.may_follow_build_at)
        assert again.may_at == pytest.approx(40.0)  # what happened to the aggregate itself does not wait for that
    assert paused == pytest.approx([80.0, 160.0, 300.0, 300.0, 300.0])
    again.rest(0.0, 3.0, 0.15, has_ended=True, seconds_max=300.0)
    assert again.may_follow_build_at == pytest.approx(40.0)


def test_nothing_is_asked_before_a_round_may_begin(again: Again) -> None:
    again.rest(0.0, 6.0, 0.15, has_ended=True, seconds_max=300.0)
    assert again.due(39.0) == {}  # it has no settings with which it could ask


def test_what_happened_just_before_a_comparison_counts_as_happened_since(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again, "_built", lambda: 7)
    again.compared(["pod1"], AT, "run")
    assert (again.since, again.built, again.run) == ({"pod1": AT - CLOCKS_APART}, 7, "run")
