"""When `make run ONCE=1` and `tieout reconcile` may say that everything ties."""

from __future__ import annotations

import pytest

from contracts.verdicts import PairResult, Verdict
from reconcile.comparison_run import Comparison
from reconcile.figures import Figure
from reconcile.pairs import PAIRS
from stack.composition.reconciling import conclusion, ties
from tests.values import result_of


def _result(verdict: Verdict, pair: str = "oltp_lake.order") -> PairResult:
    return result_of(pair, verdict)


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


def test_a_run_and_a_certificate_use_the_same_words_and_a_run_says_what_certificates_cover() -> None:
    whole = [_result(Verdict.CONSISTENT, pair.name) for pair in PAIRS]
    assert conclusion(Comparison(results=whole, figures=[_figure(7, 7)])).startswith("Everything ties: all ")
    assert conclusion(Comparison(results=whole[:1], figures=[])).startswith("What was compared ties: all 1 ")
    view = next(pair.name for pair in PAIRS if pair.copy == "account_view")
    for verdict, word in ((Verdict.INCONSISTENT, "Does not tie"), (Verdict.UNKNOWN, "Not compared")):
        of_a_view = Comparison(results=[*whole, _result(verdict, view)], figures=[_figure(7, 7)])
        said = conclusion(of_a_view)
        assert said.startswith(f"{word} as a whole: 1 of ") and f"({view} in pod1)" in said
        assert said.endswith("which is what certificates cover: ties.")
        of_a_source = conclusion(Comparison(results=[*whole, _result(verdict)], figures=[_figure(7, 7)]))
        assert of_a_source.endswith(f"certificates cover: {word.lower()}.")
    assert conclusion(Comparison(results=whole, figures=[_figure(7, 8)])).startswith("Does not tie as a whole: 0 of ")
