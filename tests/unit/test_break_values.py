"""What the ledger decides by values alone: what a result proves, what is newer, who looks after a break."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from contracts.breaks import ENDED, TRANSITIONS, BreakGroup, BreakState, team_of
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass, PairResult, Verdict
from reconcile.compare import Limits, compare
from reconcile.finance_pairs import ENTITLEMENTS
from reconcile.pairs import PAIRS
from reconcile.parked import ParkedAggregate, overdue
from reconcile.scratch import scratch, table
from reconcile.shapes import BIGINT, VARCHAR, Column, Shape, belongs_to, names_aggregate
from repair.ledger.recording import amounts_of, chooses_cut, is_overtaken
from repair.ledger.states import did_not_hold
from tests.values import result_of

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
WITHOUT_AGGREGATE = {
    "stock_levels",  # counters: sums over movements and reservations
    "manifest_counts",
    "log_counts",
    "log_entries",
    "next_cuts",
    "answer_floors",
    "marts.daily_sales",
    "marts.daily_sales_over_all_days",
    "marts.gift_card_liability",
}


def difference(entity: str, number: int) -> Difference:
    return Difference(entity=entity, key=(f"{entity}-{number}",), kind=DifferenceClass.AMOUNT)


def result(sample: tuple[Difference, ...] = (), *, different: int | None = None) -> PairResult:
    counted = len(sample) if different is None else different
    return result_of(verdict=Verdict.INCONSISTENT, cut=10, different=counted, sample=sample)


def test_what_is_stored_and_shown_is_bounded_per_entity_and_the_ledger_gets_everything() -> None:
    sample = tuple(difference(entity, number) for entity in ("orders", "order_lines") for number in range(70))
    full = result(sample)
    shown = full.as_json()
    assert len(full.sample) == 140 and full.is_sample_complete
    assert [item["key"][0] for item in shown["sample"]] == [
        f"{entity}-{number}" for entity in ("orders", "order_lines") for number in range(50)
    ]
    assert shown["differences"] == 140 and not full.bounded().is_sample_complete
    assert not result(sample, different=141).is_sample_complete
    parked = replace(full, late_keys=2, late_aggregates=("m/order/a",))
    assert not parked.is_sample_complete, "of one aggregate that was left out nobody knows which"


@pytest.mark.parametrize(
    ("cut", "minutes", "is_older"),
    [(11, 1, False), (10, 1, True), (9, 1, True), (9, 59, True), (9, 61, False), (11, -1, False)],
)
def test_a_result_is_newer_by_its_cut(cut: int, minutes: int, is_older: bool) -> None:
    later = replace(result(), cut=cut, checked_at=NOON + timedelta(minutes=minutes))
    assert is_overtaken(later, 10, NOON) is is_older


def test_cuts_count_by_epoch_first() -> None:
    opened = NOON - timedelta(minutes=5)
    after = replace(result(), cut=3, checked_at=NOON + timedelta(minutes=1), epoch_opened_at=opened)
    assert not is_overtaken(after, 7_030, NOON), "the epoch was opened since: its numbers are lower, and newer"
    assert not is_overtaken(after, 7_030, NOON, opened - timedelta(days=1))
    assert is_overtaken(after, 7_030, NOON, opened)
    before = replace(after, cut=7_030, epoch_opened_at=None)
    assert is_overtaken(before, 3, NOON, opened), "a slow comparison of what was taken back says nothing"


def test_a_copy_that_chose_the_cut_is_newer_by_time() -> None:
    chosen = replace(result(), cut_vector={"0": "10"})
    assert chooses_cut(chosen) and chooses_cut(replace(result(), cut=0)) and not chooses_cut(result())
    assert not is_overtaken(chosen, 12, NOON)
    assert is_overtaken(chosen, 10, NOON + timedelta(seconds=1))


def test_what_a_person_accepts_is_the_signed_difference() -> None:
    columns = (
        ColumnDifference(column="total_minor", left=100, right=99, difference=-1),
        ColumnDifference(column="status", left="placed", right="paid"),
    )
    assert amounts_of(replace(difference("orders", 1), columns=columns)) == {"total_minor": -1}


def test_breaks_belong_to_a_team_and_repairs_that_fail_are_counted_in_words() -> None:
    assert team_of("operational_finance.orders") == team_of("journal_identities") == "finance"
    assert team_of("oltp_lake.order") == team_of("stock_identity") == "data-platform"
    assert did_not_hold(1, 12).startswith("One repair did not hold: the comparison at cut 12")


def test_nothing_leaves_a_state_that_is_an_end() -> None:
    assert set(TRANSITIONS) == set(BreakState)
    assert {state for state, to in TRANSITIONS.items() if not to} == ENDED
    counts = {BreakState.REPAIRED: 1, BreakState.ACCEPTED: 1}
    group = BreakGroup(
        group_id=1,
        pair="p",
        pod="pod1",
        kind=DifferenceClass.AMOUNT,
        opened_at=NOON,
        opened_cut=1,
        opened_run="run",
        keys=2,
        counts=counts,
    )
    assert not group.is_ended and replace(group, counts={BreakState.VANISHED: 2}).is_ended


def test_every_row_that_belongs_to_an_aggregate_says_to_which() -> None:
    without = {shape.name for pair in PAIRS for shape in pair.shapes if shape.aggregate is None}
    assert without == WITHOUT_AGGREGATE
    (entitlements,) = ENTITLEMENTS
    assert entitlements.shape.aggregate is not None
    row = {"merchant_id": "m", "entitlement_id": "e", "customer_id": None}
    assert entitlements.shape.aggregate(row) == "m/merchant_entitlement/e"
    assert entitlements.shape.aggregate({**row, "customer_id": "ada"}) == "m/customer_entitlement/e"
    assert names_aggregate({"merchant_id": "m", "aggregate_type": "order", "aggregate_id": None}) is None


def test_a_comparison_names_the_aggregate_and_lists_as_many_keys_as_it_is_told() -> None:
    shape = Shape(
        name="order_lines",
        key=("line_id",),
        columns=(
            Column(name="merchant_id", type=VARCHAR),
            Column(name="order_id", type=VARCHAR),
            Column(name="total_minor", type=BIGINT),
        ),
        aggregate=belongs_to("order", "order_id"),
    )
    row = "select 'line-' || lpad(i::varchar, 4, '0') as line_id, 'm' || (i % 2) as merchant_id"
    with duckdb.connect() as opened, scratch(opened) as connection:
        for side, where in (("left", "i <> 7"), ("right", "i <> 8")):
            change = "i" if side == "left" else "i + 1"
            connection.execute(
                f"create table {table(side)} as {row}, 'order-' || (i // 2) as order_id, ({change})::bigint "
                f"as total_minor from range(300) as t (i) where {where}"
            )
        connection.execute(f"insert into {table('right')} from {table('right')} where line_id = 'line-0003'")
        outcome = compare(connection, shape, table("left"), table("right"), Limits(sample=10_000))
        bounded = compare(connection, shape, table("left"), table("right"))
    found = {item.key[0]: item for item in outcome.sample}
    assert len(found) == outcome.differences == 300 and len(bounded.sample) == 50
    expected = {"line-0007": "extra", "line-0008": "missing", "line-0003": "duplicate", "line-0299": "amount"}
    assert {key: found[key].kind for key in expected} == expected
    assert {key: (found[key].merchant_id, found[key].aggregate_key) for key in expected} == {
        "line-0007": ("m1", "m1/order/order-3"),
        "line-0008": ("m0", "m0/order/order-4"),
        "line-0003": ("m1", "m1/order/order-1"),
        "line-0299": ("m1", "m1/order/order-149"),
    }


def test_what_waits_for_longer_than_a_copy_may_be_late_is_a_difference() -> None:
    parked = [
        ParkedAggregate(key=f"m/order/{name}", events=events, parked_at=NOON - timedelta(seconds=age), error="no field")
        for name, events, age in (("young", 1, 120), ("old", 3, 121), ("oldest", 1, 500))
    ]
    outcome = overdue(parked, NOON, 120.0, Limits(sample=1))
    assert outcome.classes == {DifferenceClass.PARKED: 2} and outcome.different == 2
    (shown,) = outcome.sample
    assert (shown.entity, shown.key, shown.aggregate_key, shown.merchant_id) == (
        "parked",
        ("m/order/oldest",),
        "m/order/oldest",
        "m",
    )
    assert {column.column: column.left for column in shown.columns} == {
        "events": 1,
        "parked_at": "2026-01-05T11:51:40.000000Z",
        "error": "no field",
    }
    assert overdue(parked[:1], NOON, 120.0, Limits()).classes == {}
