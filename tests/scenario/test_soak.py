"""No false difference under load, for a short while: `python -m bench.soak` runs the same for minutes."""

from __future__ import annotations

import pytest

from bench.disturbances import WANTED
from bench.figures import Figure
from bench.soak import HAPPENED, Soak, figures, run_soak
from contracts.verdicts import Verdict
from reconcile.pairs import PAIRS

pytestmark = pytest.mark.timeout(900)


def missed(found: list[Figure]) -> set[str]:
    """Return the names of the figures that miss their goal."""
    return {figure.name for figure in found if figure.is_met is False}


@pytest.mark.long
def test_nothing_is_found_and_nobody_is_told_where_all_is_disturbed_and_nothing_is_wrong() -> None:
    soak = run_soak(seconds=20, orders_per_second=10)
    doubtful = [(found.pair, found.pod, found.verdict, found.reason, found.sample[:2]) for found in soak.doubtful]
    assert doubtful == []
    assert soak.verdicts.total() == soak.rounds * len(PAIRS) * 2
    assert missed(figures(soak)) == set()


@pytest.mark.parametrize("verdict", [Verdict.INCONSISTENT, Verdict.UNKNOWN])
def test_a_difference_or_a_look_that_failed_misses_the_goal(verdict: Verdict) -> None:
    soak = something_happened()
    assert missed(figures(soak)) == set()
    soak.verdicts.update({verdict: 1})
    assert missed(figures(soak)) == {f"verdict {verdict}"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"breaks_opened": 1}, "breaks opened"),
        ({"alerts_written": 1}, "alerts written"),
        ({"unfinished": 1}, "not consistent after all disturbances"),
    ],
)
def test_a_break_or_an_alert_misses_the_goal(change: dict[str, int], name: str) -> None:
    soak = something_happened()
    vars(soak).update(change)
    assert missed(figures(soak)) == {name}


def test_a_run_in_which_nothing_happened_misses_its_goals() -> None:
    assert missed(figures(Soak())) >= {"comparisons made", "keys compared", *HAPPENED, *WANTED}


def something_happened() -> Soak:
    """Return a run in which everything happened once and nothing was wrong."""
    soak = Soak(rounds=1, partial=1, keys_compared=1)
    soak.verdicts.update({Verdict.CONSISTENT: 52, Verdict.LATE: 1})
    soak.events.update(kind for kinds in HAPPENED.values() for kind in kinds)
    soak.disturbances.update(WANTED)
    return soak
