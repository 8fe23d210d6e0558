"""No false difference under load, for a short while: `python -m bench.soak` runs the same for minutes."""

from __future__ import annotations

import pytest

from bench.figures import Figure
from bench.soak import Soak, figures, run_soak
from contracts.verdicts import Verdict
from reconcile.pairs import PAIRS

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("stack")]


def missed(found: list[Figure]) -> set[str]:
    """Return the names of the figures that miss their goal."""
    return {figure.name for figure in found if figure.is_met is False}


def test_no_difference_is_found_where_orders_are_placed_and_nothing_is_wrong() -> None:
    soak = run_soak(seconds=20, orders_per_second=10)
    doubtful = [(found.pair, found.pod, found.verdict, found.reason, found.sample[:2]) for found in soak.doubtful]
    assert doubtful == []
    assert soak.verdicts == {Verdict.CONSISTENT: soak.rounds * len(PAIRS) * 2}
    assert soak.keys_compared > 0 and soak.orders_placed > 0 and soak.relay_restarts == 1
    assert missed(figures(soak)) == set()


@pytest.mark.parametrize("verdict", [Verdict.INCONSISTENT, Verdict.UNKNOWN])
def test_a_difference_or_a_look_that_failed_misses_the_goal(verdict: Verdict) -> None:
    soak = Soak(rounds=1, keys_compared=1, orders_placed=1)
    soak.verdicts.update({Verdict.CONSISTENT: 51, verdict: 1})
    assert missed(figures(soak)) == {f"verdict {verdict}"}


def test_a_run_in_which_nothing_happened_misses_its_goals() -> None:
    assert missed(figures(Soak())) == {"comparisons made", "keys compared", "orders placed meanwhile"}
