"""The table of results: what was saved comes back as it was, the newest per pair and pod."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from contracts.verdicts import ColumnDifference, Difference, DifferenceClass, Level, PairResult, Verdict
from reconcile.results import latest_results, migrate, prune_results, result_history, save_results

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
RESULT = PairResult(
    pair="oltp_lake.order",
    pod="pod1",
    verdict=Verdict.INCONSISTENT,
    cut=17,
    cut_vector={"0": "17", "1": "16+2"},
    compared=100,
    different=1,
    classes={"amount": 1},
    levels=(
        Level(
            entity="orders",
            left_rows=100,
            right_rows=100,
            left_sums={"total_minor": 2**62},
            right_sums={"total_minor": 2**62 + 1},
            is_equal=False,
        ),
    ),
    sample=(
        Difference(
            entity="orders",
            key=("a", None),
            kind=DifferenceClass.AMOUNT,
            merchant_id="eire",
            columns=(
                ColumnDifference(column="total_minor", left=1, right=2, difference=1),
                ColumnDifference(column="is_active", left=True, right=None),
            ),
        ),
    ),
    checked_at=NOON,
    seconds=0.25,
)


def test_results_come_back_as_they_were_and_the_newest_counts(make_database: Callable[..., str]) -> None:
    dsn = make_database()
    migrate(dsn)
    migrate(dsn)
    assert latest_results(dsn) == []
    later = replace(RESULT, verdict=Verdict.CONSISTENT, cut=18, checked_at=NOON + timedelta(minutes=1))
    other = replace(RESULT, pod="pod2", verdict=Verdict.UNKNOWN, cut=None, reason="It did not answer.")
    save_results(dsn, [later, other])
    save_results(dsn, [RESULT])  # an older one that was saved later
    assert latest_results(dsn) == [later, other]
    assert result_history(dsn, "oltp_lake.order", "pod1") == [later, RESULT]
    assert prune_results(dsn, NOON + timedelta(days=1)) == 1
    assert latest_results(dsn) == [later, other]
