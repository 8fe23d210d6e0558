"""A drill holds only if it was finished, every promise was looked at, and every look was as expected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from contracts.drills import Drill, Promise, drills_named
from drills.observing import Notes, Outcome, held, judge, outcome_from_json

NOW = datetime(2030, 1, 1, tzinfo=UTC)
(DRILL,) = drills_named("log", "lag")


def notes(drill: Drill = DRILL, *, without: Promise | None = None, bad: Promise | None = None) -> Notes:
    """Return notes in which every promise of a drill was looked at, but one, or was as expected, but one."""
    made = Notes(clean=lambda text: text.replace("hunter2", "***"), clock=lambda: NOW)
    for promise in drill.promises:
        if promise is not without:
            made.add(promise, "pod1", expected="so", seen="hunter2", is_ok=promise is not bad)
    return made


def outcome(made: Notes, *, failure: str = "") -> Outcome:
    return judge(
        DRILL, made, started_at=NOW, ended_at=NOW + timedelta(seconds=3), seconds_broken=1.23456, failure=failure
    )


def test_a_drill_of_which_everything_was_as_expected_has_held() -> None:
    found = outcome(notes())
    assert found.has_held and found.problems == () and found.unobserved == ()
    assert (found.seconds, found.seconds_broken) == (3.0, 1.235)
    assert held([found])


@pytest.mark.parametrize("promise", DRILL.promises)
def test_one_look_that_was_not_as_expected_fails_it(promise: Promise) -> None:
    found = outcome(notes(bad=promise))
    assert not found.has_held and not held([outcome(notes()), found])
    assert found.problems == (f"{promise} (pod1): expected so; seen ***",)


@pytest.mark.parametrize("promise", DRILL.promises)
def test_a_promise_that_nobody_looked_at_fails_it(promise: Promise) -> None:
    found = outcome(notes(without=promise))
    assert not found.has_held and found.problems == (f"{promise}: was not looked at",)


def test_a_drill_that_was_not_finished_fails_whatever_was_seen() -> None:
    found = outcome(notes(), failure="It could not be finished: hunter2")
    assert not found.has_held and found.problems == ("It could not be finished: ***",)


def test_nothing_drilled_is_not_held() -> None:
    assert not held([])


def test_an_outcome_survives_the_way_through_json() -> None:
    found = outcome(notes(bad=Promise.LATE_IS_NOT_WRONG, without=Promise.CATCHES_UP)).with_logs({"relay": "x"})
    assert outcome_from_json(found.as_json()) == found


def test_what_is_read_back_is_judged_anew() -> None:
    forged = {**outcome(notes(bad=Promise.EQUAL_AGAIN)).as_json(), "has_held": True, "problems": []}
    assert not outcome_from_json(forged).has_held
