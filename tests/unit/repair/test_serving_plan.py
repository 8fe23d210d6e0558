"""What breaks of carts and of the cache need: a merge, dropping, or a person; never evidence of events."""

from __future__ import annotations

from datetime import UTC, datetime

from contracts.breaks import Break, BreakState
from contracts.verdicts import DifferenceClass
from repair.plan import plan
from repair.values import ActionKind, Budget, Plan, PodEvidence
from tests.values import break_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POD = PodEvidence(pod="pod1", base_cut=0, lake_reset_cut=None, built_cut=0)


def a_break(break_id: int, pair: str, kind: DifferenceClass, aggregate_key: str | None) -> Break:
    return break_of(
        break_id=break_id,
        pair=pair,
        entity="any",
        kind=kind,
        day=None,
        currency=None,
        aggregate_key=aggregate_key,
        state=BreakState.REPAIRING,
        owner="data-platform",
        first_seen_at=NOW,
        first_seen_cut=7,
        last_seen_cut=7,
        repairs=1,
    )


def planned(*breaks: Break) -> Plan:
    return plan(breaks, {"pod1": POD}, Budget())


def test_carts_that_lack_something_are_merged_together_and_others_go_to_a_person() -> None:
    made = planned(
        a_break(1, "oltp_cart", DifferenceClass.MISSING, "m/cart/a"),
        a_break(2, "oltp_cart", DifferenceClass.STALE, "m/cart/b"),
        a_break(3, "oltp_cart", DifferenceClass.DIFFERENT, "m/cart/c"),
    )
    (action,) = made.actions
    assert (action.kind, action.store, action.keys, action.causes) == (
        ActionKind.MERGE_CARTS,
        "cart",
        ("m/cart/a", "m/cart/b"),
        (1, 2),
    )
    (escalation,) = made.escalations
    assert escalation.break_ids == (3,) and "a merge would hide which side is right" in escalation.reason


def test_wrong_answers_are_dropped_and_with_a_wrong_floor_all_of_the_pod() -> None:
    wrong = a_break(1, "oltp_answer_cache", DifferenceClass.DIFFERENT, "m/product/p")
    (action,) = planned(wrong).actions
    assert (action.kind, action.store, action.keys) == (ActionKind.DROP_ANSWERS, "answer_cache", ("m/product/p",))
    (action,) = planned(wrong, a_break(2, "lake_floors", DifferenceClass.STALE, None)).actions
    assert (action.kind, action.keys, action.causes) == (ActionKind.DROP_ANSWERS, (), (1, 2))
