"""The matrix is complete: every copy with every test, each with steps, promises, pairs and a runbook."""

from __future__ import annotations

import itertools

import pytest

from contracts.drills import DRILLS, Drill, DrillTest, Promise, drills_named
from contracts.errors import InputError
from contracts.ownership import COPIES
from docs.generate import ROOT, documents
from drills.cells import PLAYS, play_of
from reconcile.pairs import pairs_named


def test_every_copy_has_every_drill() -> None:
    wanted = list(itertools.product([copy.name for copy in COPIES], DrillTest))
    assert [(drill.copy.name, drill.test) for drill in DRILLS] == wanted
    assert set(PLAYS) == set(itertools.product({copy.kind for copy in COPIES}, DrillTest))


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_a_drill_says_what_is_broken_and_what_must_hold(drill: Drill) -> None:
    assert drill.breaks.endswith(".") and drill.recovers.endswith(".")
    assert len(set(drill.promises)) == len(drill.promises) and drill.meanwhile
    assert {Promise.CATCHES_UP, Promise.EQUAL_AGAIN, Promise.NOTHING_LOST_OR_DOUBLE} <= set(drill.afterwards)
    assert (Promise.IS_GONE in drill.meanwhile) == (drill.test is DrillTest.REPLAY)
    assert (Promise.LAG_IS_REPORTED in drill.meanwhile) == (drill.test is DrillTest.LAG)
    assert (Promise.STALE_DECISIONS_FAIL in drill.meanwhile) == (drill.test is DrillTest.STALE_READ)
    assert (Promise.OUTAGE_IS_REPORTED in drill.meanwhile) == (drill.test is DrillTest.SOURCE_OUTAGE)
    assert pairs_named(drill.pairs)
    assert (ROOT / "docs" / drill.copy.runbook).is_file()
    assert callable(play_of(drill))


def test_every_promise_is_made_by_some_drill_and_has_words() -> None:
    assert {promise for drill in DRILLS for promise in drill.promises} == set(Promise)
    assert all(promise.words.endswith(".") for promise in Promise)


def test_the_page_of_the_matrix_names_every_drill() -> None:
    text = documents()[ROOT / "docs/drills.md"]
    assert [drill.name for drill in DRILLS if f"### {drill.name}\n" not in text] == []


def test_drills_are_found_by_copy_and_test() -> None:
    assert drills_named() == DRILLS
    assert [drill.name for drill in drills_named("lake")] == [f"lake-{test}" for test in DrillTest]
    assert [drill.name for drill in drills_named("log", "lag")] == ["log-lag"]
    with pytest.raises(InputError, match="no system 'cache' to drill; there are log, lake"):
        drills_named("cache")
    with pytest.raises(InputError, match="no test 'fire'"):
        drills_named("lake", "fire")
