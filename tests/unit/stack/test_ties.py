"""When `make run ONCE=1` and `tieout reconcile` may say that everything ties."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contracts.verdicts import PairResult, Verdict
from reconcile.figures import Figure
from reconcile.run import Comparison
from stack.reconciling import ties


def _result(verdict: Verdict) -> PairResult:
    return PairResult(
        pair="oltp_lake.order",
        pod="pod1",
        verdict=verdict,
        cut=1,
        checked_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=0,
    )


def _figure(operational: int | None, finance: int | None) -> Figure:
    return Figure(pod="pod1", cut=1, currency="GBP", name="net_minor", operational=operational, finance=finance)


def test_consistent_pairs_and_equal_figures_tie() -> None:
    assert ties(Comparison(results=[_result(Verdict.CONSISTENT)], figures=[_figure(7, 7)]))


def test_nothing_compared_is_no_tie() -> None:
    assert not ties(Comparison(results=[], figures=[]))


@pytest.mark.parametrize("verdict", [Verdict.INCONSISTENT, Verdict.LATE, Verdict.UNKNOWN])
def test_any_other_verdict_is_no_tie(verdict: Verdict) -> None:
    assert not ties(Comparison(results=[_result(Verdict.CONSISTENT), _result(verdict)], figures=[]))


@pytest.mark.parametrize(("operational", "finance"), [(7, 8), (None, 7), (7, None)])
def test_a_figure_that_differs_or_is_missing_on_one_side_is_no_tie(
    operational: int | None, finance: int | None
) -> None:
    assert not ties(Comparison(results=[_result(Verdict.CONSISTENT)], figures=[_figure(operational, finance)]))
