"""Which keys the comparison after a repair looks at: the touched ones only where the repair can name all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from contracts.breaks import Break, BreakGroup, BreakState
from contracts.verdicts import DifferenceClass, PairResult, Verdict
from repair.rechecking import keys_to_compare
from repair.values import Action, ActionKind
from tests.values import break_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAIR = "lake_account_view"
BROKEN = break_of(
    break_id=1,
    pair=PAIR,
    entity="account_orders",
    kind=DifferenceClass.DIFFERENT,
    day=None,
    currency=None,
    aggregate_key="eire/order/o1",
    state=BreakState.REPAIRING,
    owner="data-platform",
    first_seen_at=NOW,
    first_seen_cut=7,
    last_seen_cut=7,
    repairs=1,
)
INCIDENT = BreakGroup(
    group_id=1,
    pair=PAIR,
    pod="pod1",
    kind=DifferenceClass.DIFFERENT,
    opened_at=NOW,
    opened_cut=7,
    opened_run="a",
    keys=2,
    counts={BreakState.REPAIRING: 1, BreakState.REPAIRED: 1},
)
FOUND = PairResult(pair=PAIR, pod="pod1", verdict=Verdict.INCONSISTENT, cut=7, checked_at=NOW, seconds=1, compared=9)


def an_action(kind: ActionKind, *keys: str, pod: str = "pod1") -> Action:
    return Action(kind=kind, store="account_view", pod=pod, keys=keys, causes=(1,), why="")


def keys(
    *actions: Action, claimed: Break = BROKEN, incident: BreakGroup = INCIDENT, newest: PairResult = FOUND
) -> dict[str, frozenset[str]]:
    return keys_to_compare([PAIR], ["pod1"], claimed=[claimed], actions=actions, incidents=[incident], newest=[newest])


def test_what_an_action_wrote_and_what_was_broken_is_compared() -> None:
    rebuilt = an_action(ActionKind.REBUILD_KEYS, "eire/order/o1", "eire/refund/r1")
    # The lake's actions name events, which belong to the broken aggregates.
    mended = an_action(ActionKind.REPLACE_EVENTS, "an event")
    elsewhere = an_action(ActionKind.REBUILD_VIEW, pod="pod2")
    assert keys(mended, rebuilt, elsewhere) == {"pod1": {"o1", "r1"}}
    assert keys() == {"pod1": {"o1"}}


def test_what_cannot_be_named_is_compared_completely() -> None:
    rebuilt = an_action(ActionKind.REBUILD_KEYS, "eire/order/o1")
    for kind in (ActionKind.REBUILD_VIEW, ActionKind.REPUBLISH, ActionKind.SET_LAKE_POSITION, ActionKind.LOAD_CUTS):
        assert keys(rebuilt, an_action(kind)) == {}, kind
    assert keys(rebuilt, an_action(ActionKind.BUILD, pod="pod2,pod1")) == {}
    assert keys(an_action(ActionKind.REBUILD_KEYS)) == {}
    # A sum has no aggregate.
    assert keys(rebuilt, claimed=replace(BROKEN, aggregate_key=None)) == {}


def test_where_more_may_differ_than_the_ledger_names_everything_is_compared() -> None:
    rebuilt = an_action(ActionKind.REBUILD_KEYS, "eire/order/o1")
    assert keys(rebuilt, incident=replace(INCIDENT, keys=3)) == {}
    assert keys(rebuilt, incident=replace(INCIDENT, keys=3, pod="pod2")) == {"pod1": {"o1"}}
    assert keys(rebuilt, newest=replace(FOUND, verdict=Verdict.UNKNOWN)) == {}
    assert keys(rebuilt, newest=replace(FOUND, verdict=Verdict.LATE, compared=0)) == {}
    many = an_action(ActionKind.REBUILD_KEYS, *(f"eire/order/{number}" for number in range(20_001)))
    assert keys(many) == {}
