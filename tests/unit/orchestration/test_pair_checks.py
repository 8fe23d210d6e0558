"""What a pair's check says when its pods differ in their verdicts."""

from __future__ import annotations

import dagster as dg
import pytest

from checks.pairs import check_result, could_not_look, sample_table
from contracts.errors import ComparisonError
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass, PairResult, Verdict
from reconcile.pairs import PAIRS
from tests.values import result_of

PAIR = next(pair for pair in PAIRS if pair.name == "operational_finance.orders")


def result(pod: str, verdict: Verdict, **changes: object) -> PairResult:
    return result_of(PAIR.name, verdict, pod=pod, cut=7, **changes)


def test_what_one_pod_shows_is_not_hidden_by_another_that_could_not_be_looked_at() -> None:
    results = [
        result("pod1", Verdict.INCONSISTENT, compared=9, missing=1),
        result("pod2", Verdict.UNKNOWN, reason="a test fails"),
    ]
    found = check_result(PAIR, results)
    assert not found.passed and found.severity is dg.AssetCheckSeverity.ERROR
    assert found.description == (
        "pod1: inconsistent at cut 7, pod2: unknown at cut 7. operational_finance.orders in pod2: a test fails"
    )
    assert could_not_look(results) == "operational_finance.orders in pod2: a test fails"


@pytest.mark.parametrize("other", [Verdict.CONSISTENT, Verdict.LATE, Verdict.UNKNOWN])
def test_unknown_is_no_answer(other: Verdict) -> None:
    with pytest.raises(ComparisonError, match=r"operational_finance\.orders in pod2: a test fails"):
        check_result(PAIR, [result("pod1", other), result("pod2", Verdict.UNKNOWN, reason="a test fails")])


def test_late_warns_and_consistent_passes() -> None:
    late = check_result(PAIR, [result("pod1", Verdict.CONSISTENT), result("pod2", Verdict.LATE)])
    assert not late.passed and late.severity is dg.AssetCheckSeverity.WARN
    assert check_result(PAIR, [result("pod1", Verdict.CONSISTENT), result("pod2", Verdict.CONSISTENT)]).passed


def test_what_a_page_shows_of_a_key_obeys_nobody() -> None:
    found = Difference(
        entity="orders",
        key=("a\n\x1b[2J",),
        kind=DifferenceClass.STALE,
        columns=(ColumnDifference(column="customer_id", left="\u202e", right=None),),
    )
    (record,) = sample_table([result("pod1", Verdict.INCONSISTENT, sample=(found,))]).records
    assert record.data["key"] == r"a\n\x1b[2J" and record.data["columns"] == r"customer_id: \u202e -> None"
