"""The table of results: what was saved comes back as it was, the newest per pair and pod."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg

from contracts.scope import Scope
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass, Level, PairResult, Verdict
from reconcile.figure_results import migrate as migrate_figures
from reconcile.results import (
    EpochStart,
    complete_results,
    latest_results,
    migrate,
    prune_results,
    result_history,
    save_results,
    unknown_since,
)
from reconcile.retention import PARTS_KEPT, prune_comparisons
from reconcile.sightings import migrate as migrate_sightings

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


def test_parts_that_found_nothing_are_kept_for_a_rotation_only(make_database: Callable[..., str]) -> None:
    dsn = make_database()
    migrate(dsn)
    migrate_figures(dsn)
    migrate_sightings(dsn)
    part = Scope(since_cut=1, through_cut=2, ranges=(), ids=frozenset())
    kinds = [
        replace(RESULT, verdict=verdict, scope=scope, checked_at=NOON + timedelta(minutes=minute))
        for minute, (verdict, scope) in enumerate(
            [
                (Verdict.CONSISTENT, part),
                (Verdict.INCONSISTENT, part),
                (Verdict.CONSISTENT, None),
                (Verdict.CONSISTENT, part),
                (Verdict.CONSISTENT, part),
            ]
        )
    ]
    save_results(dsn, kinds)
    assert prune_comparisons(dsn, NOON + PARTS_KEPT).results == 0
    assert prune_comparisons(dsn, NOON + PARTS_KEPT + timedelta(hours=1)).results == 2
    # The newest stays, and what found a difference or compared everything stays for a month.
    assert result_history(dsn, RESULT.pair, RESULT.pod) == [kinds[4], kinds[2], kinds[1]]


def test_since_when_every_try_was_unknown(make_database: Callable[..., str]) -> None:
    dsn = make_database()
    migrate(dsn)

    def tries(pod: str, *verdicts: Verdict) -> None:
        made = [
            replace(RESULT, pod=pod, verdict=verdict, checked_at=NOON + timedelta(minutes=minute))
            for minute, verdict in enumerate(verdicts)
        ]
        save_results(dsn, made)

    assert unknown_since(dsn) == {}
    tries("pod1", Verdict.UNKNOWN, Verdict.CONSISTENT, Verdict.UNKNOWN, Verdict.UNKNOWN)
    tries("pod2", Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.LATE)
    tries("pod3", Verdict.UNKNOWN)
    assert unknown_since(dsn) == {
        (RESULT.pair, "pod1"): NOON + timedelta(minutes=2),
        (RESULT.pair, "pod3"): NOON,
    }


def test_a_certificate_rests_on_one_cut_at_which_everything_was_compared(make_database: Callable[..., str]) -> None:
    dsn = make_database("tieout_control")
    migrate(dsn)
    at = RESULT.checked_at

    def saved(cut: int, *verdicts: Verdict, minutes: int = 0) -> None:
        pairs = [replace(RESULT, pair=name, cut=cut, checked_at=at + timedelta(minutes=minutes)) for name in ("a", "b")]
        results = [replace(pair, verdict=verdict) for pair, verdict in zip(pairs, verdicts, strict=False)]
        save_results(dsn, results)

    def found(since_cut: int = 0, epoch: EpochStart | None = None) -> set[int | None]:
        results = complete_results(dsn, RESULT.pod, ["a", "b"], since_cut=since_cut, epoch=epoch)
        assert len(results) in (0, 2)
        return {result.cut for result in results}

    assert found() == set()
    saved(3, Verdict.CONSISTENT, Verdict.CONSISTENT)
    saved(5, Verdict.CONSISTENT, Verdict.INCONSISTENT)
    saved(7, Verdict.CONSISTENT, Verdict.CONSISTENT, minutes=10)
    saved(9, Verdict.CONSISTENT)  # half of it
    assert (found(3), found(), found(4), found(8)) == ({3}, {7}, {7}, set())
    assert found(5) == {7}, "what was found since counts, when there was a difference"
    assert found(epoch=EpochStart(base_cut=4, opened_at=at + timedelta(minutes=5))) == {7}
    assert found(epoch=EpochStart(base_cut=4, opened_at=at + timedelta(minutes=15))) == {3}
    with psycopg.connect(dsn) as connection:
        connection.execute("update reconcile.results set is_whole = false where cut = 7 and pair = 'a'")
    assert found() == {5}
    partial = complete_results(dsn, RESULT.pod, ["a", "b"], since_cut=6, is_partial=True)
    assert {result.cut for result in partial} == {7} and found(6) == set()
