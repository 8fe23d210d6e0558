"""Every class of damage and what is done about it: an action, a person, or nothing but another look."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from contracts.breaks import Break, BreakState
from contracts.events.changes import FieldChange
from contracts.verdicts import DifferenceClass
from repair.plan import plan
from repair.values import (
    Action,
    ActionKind,
    AggregateEvidence,
    Budget,
    DamageKind,
    EventDamage,
    LostEvent,
    Plan,
    PodEvidence,
    Source,
    ViewEvidence,
)
from tests.values import break_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ORDER = "eire/order/o1"
RIGHT = AggregateEvidence(root_version=3, is_stated=True, has_events=True, first_cuts={"pod1": 5}, home="pod1")


def a_break(break_id: int, pair: str, entity: str, **values) -> Break:
    given = {
        "kind": DifferenceClass.DIFFERENT,
        "day": None,
        "currency": None,
        "aggregate_key": ORDER,
        "state": BreakState.REPAIRING,
        "owner": "data-platform",
        "first_seen_at": NOW,
        "first_seen_cut": 7,
        "last_seen_cut": 7,
        "repairs": 1,
    }
    return break_of(break_id=break_id, pair=pair, entity=entity, **{**given, **values})


def in_pod(*damages: EventDamage, aggregate: AggregateEvidence = RIGHT, **values) -> PodEvidence:
    given = {
        "pod": "pod1",
        "base_cut": 0,
        "lake_reset_cut": None,
        "built_cut": 0,
        "aggregates": {ORDER: aggregate},
        "damages": damages,
        "event_cuts": {"e1": 5, "e2": 6, "e3": 7},
        "wrong_log_cuts": frozenset({6}),
        "views": {"account_view": ViewEvidence(), "fulfillment_view": ViewEvidence()},
    }
    return PodEvidence(**{**given, **values})


def damage(kind: DamageKind, event_id: str = "e2", source: Source | None = Source.OUTBOX, cut: int = 6) -> EventDamage:
    return EventDamage(kind=kind, pod="pod1", event_id=event_id, aggregate_key=ORDER, version=2, cut=cut, source=source)


def planned(*breaks: Break, pod: PodEvidence | None = None, budget: Budget | None = None) -> Plan:
    return plan(breaks, {"pod1": pod or in_pod()}, budget or Budget())


LAKE = a_break(1, "oltp_lake.order", "orders")
OUTBOX = a_break(1, "log_manifests", "outbox_events", key=("e2",))
VIEW = a_break(1, "lake_account_view", "account_orders")
MART = a_break(1, "operational_finance.orders", "marts.orders")
OUTBOX_COUNTS = a_break(1, "outbox_log", "log_counts", key=("6", "0"), aggregate_key=None)
COUNTS = a_break(1, "log_manifests", "manifest_counts", key=("6", "0", "0"), aggregate_key=None)
ENTRY = a_break(1, "outbox_log", "log_entries", key=("6", "0", "0"), aggregate_key=None)
LOGGED = a_break(1, "log_manifests", "log_events", key=("e2",))
PARKED = a_break(1, "oltp_lake.order", "parked", kind=DifferenceClass.PARKED)
PARKED_IN_VIEW = a_break(1, "lake_account_view", "parked", kind=DifferenceClass.PARKED)
SUM = a_break(1, "operational_finance.daily_sales", "marts.daily_sales", key=("eire", "d", "EUR"), aggregate_key=None)
UNSTATED = replace(RIGHT, is_stated=False)
DISPUTED = replace(damage(DamageKind.ALTERED), is_disputed=True)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One damage: what is broken, what was found out, what is to be done."""

    broken: Break
    pod: PodEvidence = field(default_factory=in_pod)
    actions: tuple[tuple[ActionKind, str, tuple[str, ...], tuple[int, ...]], ...] = ()
    """Kind, store, keys, cuts."""
    refusal: str = ""
    is_in_order: bool = False


RESTORED = (ActionKind.RESTORE_EVENTS, "lake", ("e2",), (6,))
REBUILT = (ActionKind.REBUILD_KEYS, "account_view", (ORDER,), ())
RESTATED = (ActionKind.RESTATE, "oltp", (ORDER,), ())
BUILT = (ActionKind.BUILD, "warehouse", (), ())
REPUBLISHED = (ActionKind.REPUBLISH, "log", (), (6,))
GONE = replace(RIGHT, root_version=None)
DEARER = FieldChange(field="total_minor", before=1_200, after=1_201, is_money=True)
RENAMED = FieldChange(field="title", before="Cup", after="Mug", is_money=False)
TAMPERED = replace(UNSTATED, changes=(DEARER, RENAMED), currencies=("GBP", "GBP"), digest="d")
UNTOLD = replace(TAMPERED, has_events=False, changes=(replace(DEARER, before=None),))
LOST = replace(RIGHT, lost_versions=(2,))
UNEXPLAINED = replace(RIGHT, is_left_out=True, is_unexplained=True)
PRUNED = in_pod(damage(DamageKind.MISSING, source=Source.BACKUP), base_cut=8)
BEHIND = a_break(1, "log_positions", "next_cuts", key=("account_view",), aggregate_key=None)
SENT = LostEvent(event_id="e9", aggregate_key=ORDER, cut=7)
LAKE_BEHIND = replace(BEHIND, key=("lake",))
CASES = {
    "the log no longer has what a view needs next": Case(
        broken=BEHIND, pod=in_pod(gaps={"account_view": 6}), actions=(REPUBLISHED,)
    ),
    "the log no longer has what the lake needs next": Case(
        broken=LAKE_BEHIND, pod=in_pod(gaps={"lake": 6}, base_cut=5), actions=(REPUBLISHED,)
    ),
    "neither log nor outbox has what a view needs next": Case(
        broken=BEHIND,
        pod=in_pod(gaps={"account_view": 6}, base_cut=6, views={"account_view": ViewEvidence(has_gap=True)}),
        actions=((ActionKind.REBUILD_VIEW, "account_view", (), ()),),
    ),
    "neither log nor outbox has what the lake needs next": Case(
        broken=LAKE_BEHIND,
        pod=in_pod(gaps={"lake": 6}, base_cut=6, backed_up_cut=5),
        refusal="the verified backup at hand ends at cut 5",
    ),
    "only the backup has what the lake needs next": Case(
        broken=LAKE_BEHIND,
        pod=in_pod(gaps={"lake": 6}, base_cut=8, backed_up_cut=9, is_logged_after_backup=True),
        actions=((ActionKind.LOAD_CUTS, "lake", (), (6, 9)),),
    ),
    "the backup, then the outbox have what the lake needs next": Case(
        broken=LAKE_BEHIND,
        pod=in_pod(gaps={"lake": 6}, base_cut=9, backed_up_cut=9, built_cut=8),
        actions=(
            (ActionKind.REPUBLISH, "log", (), (10,)),
            (ActionKind.LOAD_CUTS, "lake", (), (6, 9)),
            (ActionKind.BUILD, "warehouse", (), ()),
        ),
    ),
    "a copy has caught up meanwhile": Case(broken=BEHIND, is_in_order=True),
    "the log has an event that the outbox has lost": Case(
        broken=OUTBOX_COUNTS, pod=in_pod(lost_event=SENT), refusal="no longer has event e9 of eire/order/o1 of cut 7"
    ),
    "a copy needs a cut of an outbox that has lost an event": Case(
        broken=BEHIND,
        pod=in_pod(gaps={"account_view": 6}, lost_event=replace(SENT, event_id=None)),
        refusal="no longer has an event of cut 7",
    ),
    "a copy needs a cut of an outbox that is disputed": Case(
        broken=BEHIND, pod=in_pod(gaps={"account_view": 6}, disputed_event="e1"), refusal="whose event e1"
    ),
    "a description was changed past the outbox": Case(
        broken=LAKE, pod=in_pod(aggregate=replace(UNSTATED, changes=(RENAMED,))), actions=(RESTATED,)
    ),
    "money was changed past the outbox": Case(
        broken=LAKE,
        pod=in_pod(aggregate=TAMPERED),
        refusal="total 12.00 GBP by the event, 12.01 GBP in the row",
    ),
    "money was changed past the outbox, found in a mart": Case(
        broken=MART, pod=in_pod(aggregate=TAMPERED), refusal="no event explains the change"
    ),
    "money was changed, and a person has approved it": Case(
        broken=LAKE, pod=in_pod(aggregate=replace(TAMPERED, is_approved=True)), actions=(RESTATED,)
    ),
    "money was changed, and the lake lost an event of it": Case(
        broken=LAKE, pod=in_pod(damage(DamageKind.MISSING), aggregate=TAMPERED), actions=(RESTORED,)
    ),
    "a row that no event tells of": Case(
        broken=LAKE, pod=in_pod(aggregate=UNTOLD), refusal="no command wrote it. It holds total nothing by the"
    ),
    "a row that no event tells of, of which a person has approved it": Case(
        broken=LAKE, pod=in_pod(aggregate=replace(UNTOLD, is_approved=True)), actions=(RESTATED,)
    ),
    "an event is nowhere, and a person wants it stated again": Case(
        broken=LAKE,
        pod=in_pod(aggregate=replace(RIGHT, lost_versions=(2,), is_approved=True)),
        actions=(RESTATED,),
    ),
    "the lake lost an event": Case(broken=LAKE, pod=in_pod(damage(DamageKind.MISSING)), actions=(RESTORED,)),
    "the lake lost an event, found by its outbox row": Case(
        broken=OUTBOX, pod=in_pod(damage(DamageKind.MISSING)), actions=(RESTORED,)
    ),
    "the lake lost an event, found by the manifest": Case(
        broken=COUNTS, pod=in_pod(damage(DamageKind.MISSING)), actions=(RESTORED,)
    ),
    "the lake lost an event, found by the log": Case(
        broken=LOGGED, pod=in_pod(damage(DamageKind.MISSING)), actions=(RESTORED,)
    ),
    "the lake lost an event of a pruned cut": Case(broken=LAKE, pod=PRUNED, actions=(RESTORED,)),
    "the lake lost an event of which marts were built": Case(
        broken=LAKE, pod=in_pod(damage(DamageKind.MISSING), built_cut=8), actions=(RESTORED,)
    ),
    "the lake lost an event after the newest build": Case(
        broken=LAKE, pod=in_pod(damage(DamageKind.MISSING), built_cut=5), actions=(RESTORED,)
    ),
    "an event was altered": Case(
        broken=LAKE,
        pod=in_pod(damage(DamageKind.ALTERED)),
        actions=((ActionKind.REPLACE_EVENTS, "lake", ("e2",), (6,)),),
    ),
    "an event came twice": Case(
        broken=a_break(1, "oltp_lake.order", "events", kind=DifferenceClass.DUPLICATE, key=("o1", "2")),
        pod=in_pod(damage(DamageKind.DUPLICATE), built_cut=8),
        actions=((ActionKind.REMOVE_DUPLICATES, "lake", ("e2",), (6,)),),
    ),
    "an event that never left the pod": Case(
        broken=LAKE,
        pod=in_pod(
            damage(DamageKind.EXTRA, "x", None, 7), aggregate=replace(RIGHT, clashing=("x",)), event_cuts={"x": 7}
        ),
        actions=((ActionKind.REMOVE_EXTRA_EVENTS, "lake", ("x",), (7,)),),
    ),
    "an event that only the lake has, in its proper place": Case(
        broken=LAKE, pod=in_pod(damage(DamageKind.EXTRA, "x", None, 7)), refusal="may have lost it"
    ),
    "a row was deleted from OLTP": Case(broken=LAKE, pod=in_pod(aggregate=GONE), refusal="only evidence"),
    "an intermediate event is nowhere": Case(broken=LAKE, pod=in_pod(aggregate=LOST), refusal="Version 2 of"),
    "the newest event is nowhere": Case(
        broken=LAKE,
        pod=in_pod(aggregate=replace(LOST, lost_versions=(3,), is_stated=False)),
        actions=(RESTATED,),
    ),
    "a write bypassed the outbox": Case(broken=LAKE, pod=in_pod(aggregate=UNSTATED), actions=(RESTATED,)),
    "a write bypassed the outbox, found in a mart": Case(
        broken=MART, pod=in_pod(aggregate=UNSTATED), actions=(RESTATED,)
    ),
    "a write bypassed the outbox, and its mart stays wrong": Case(
        broken=replace(MART, repairs=2), pod=in_pod(aggregate=UNSTATED), actions=(RESTATED, BUILT)
    ),
    "a write bypassed the outbox and made OLTP wrong in itself": Case(
        broken=LAKE, pod=in_pod(aggregate=replace(UNSTATED, is_faulty=True)), refusal="spread the fault"
    ),
    "a mart that shows the owner's own fault": Case(
        broken=MART, pod=in_pod(aggregate=replace(RIGHT, is_faulty=True)), refusal="spread the fault"
    ),
    "OLTP contradicts itself": Case(
        broken=a_break(1, "oltp_identities", "payments", kind=DifferenceClass.IDENTITY), refusal="OLTP itself"
    ),
    "stock contradicts its movements": Case(
        broken=a_break(1, "stock_identity", "stock_levels", aggregate_key=None), refusal="OLTP itself"
    ),
    "an entry of the log is gone": Case(broken=ENTRY, actions=(REPUBLISHED,)),
    "an entry of the log that is pruned in the outbox is gone": Case(
        broken=ENTRY, pod=in_pod(base_cut=6), refusal="pruned from the outbox"
    ),
    "the log has another event than the outbox": Case(broken=LOGGED, actions=(REPUBLISHED,)),
    "a manifest miscounts": Case(broken=COUNTS, actions=(REPUBLISHED,)),
    "a manifest is lost": Case(broken=OUTBOX_COUNTS, actions=(REPUBLISHED,)),
    "an event that only the log has": Case(
        broken=replace(LOGGED, key=("unknown",)),
        pod=in_pod(wrong_log_cuts=frozenset()),
        refusal="neither the outbox nor the lake",
    ),
    "an event that only the lake had, and that a repair has taken out before it was killed": Case(
        broken=replace(LOGGED, key=("forged",), kind=DifferenceClass.EXTRA), is_in_order=True
    ),
    "an event that only the log has, in an entry that is wrong": Case(
        broken=replace(LOGGED, key=("unknown",), kind=DifferenceClass.MISSING), actions=(REPUBLISHED,)
    ),
    "the lake was mended, and the log was right": Case(
        broken=LOGGED, pod=in_pod(wrong_log_cuts=frozenset()), is_in_order=True
    ),
    "an entry of the log was published again": Case(
        broken=ENTRY, pod=in_pod(wrong_log_cuts=frozenset()), is_in_order=True
    ),
    "a manifest counts what the lake has by now": Case(
        broken=COUNTS, pod=in_pod(wrong_log_cuts=frozenset()), is_in_order=True
    ),
    "outbox against log and lake, of an event that was gone on from": Case(
        broken=OUTBOX,
        pod=in_pod(DISPUTED, aggregate=replace(RIGHT, root_version=3)),
        refusal="says otherwise of event e2",
    ),
    "outbox against log and lake, and nothing says what is right": Case(
        broken=VIEW,
        pod=in_pod(DISPUTED, aggregate=replace(UNSTATED, root_version=2)),
        refusal="says otherwise of event",
    ),
    "the row says what the outbox says, log and lake were changed": Case(
        broken=OUTBOX,
        pod=in_pod(DISPUTED, aggregate=replace(RIGHT, root_version=2)),
        actions=((ActionKind.REPLACE_EVENTS, "lake", ("e2",), (6,)),),
    ),
    "the log would be written again from an outbox in dispute": Case(
        broken=ENTRY,
        pod=in_pod(replace(DISPUTED, cut=9), aggregate=replace(RIGHT, root_version=3)),
        refusal="Settle that",
    ),
    "the log would be written again from an outbox that is before people": Case(
        broken=ENTRY, pod=in_pod(disputed_event="e9"), refusal="event e9 is not what log"
    ),
    "an event is parked on its way to the lake": Case(
        broken=PARKED,
        pod=in_pod(lake_parked=frozenset({ORDER})),
        actions=((ActionKind.REPLAY_PARKED, "lake", (ORDER,), ()),),
    ),
    "an event is parked in a view": Case(
        broken=PARKED_IN_VIEW,
        pod=in_pod(views={"account_view": ViewEvidence(parked=frozenset({ORDER}))}),
        actions=((ActionKind.REPLAY_PARKED, "account_view", (ORDER,), ()),),
    ),
    "others are parked that are not late yet": Case(
        broken=PARKED_IN_VIEW,
        pod=in_pod(views={"account_view": ViewEvidence(parked=frozenset({ORDER, "eire/order/newer"}))}),
        actions=((ActionKind.REPLAY_PARKED, "account_view", tuple(sorted((ORDER, "eire/order/newer"))), ()),),
    ),
    "a parked event was replayed meanwhile": Case(broken=PARKED, is_in_order=True),
    "a row of a view is wrong": Case(broken=VIEW, actions=(REBUILT,)),
    "a table of a view is empty": Case(
        broken=VIEW,
        pod=in_pod(views={"account_view": ViewEvidence(empty_tables=frozenset({"account_orders"}))}),
        actions=((ActionKind.REBUILD_VIEW, "account_view", (), ()),),
    ),
    "a view is right and the lake wrong": Case(
        broken=VIEW, pod=in_pod(damage(DamageKind.MISSING)), actions=(RESTORED, REBUILT)
    ),
    "a view of which the lake is in doubt": Case(broken=VIEW, pod=in_pod(aggregate=GONE), refusal="only evidence"),
    "a row of a mart is wrong": Case(broken=MART, actions=(BUILT,)),
    "a row of a mart that is left out": Case(
        broken=MART,
        pod=in_pod(left_out={ORDER: "eire/payment/p1 (a version is missing)"}),
        refusal="because of eire/pay",
    ),
    "an event has other amounts than the one before, and does not say so": Case(
        broken=MART,
        pod=in_pod(aggregate=UNEXPLAINED, left_out={ORDER: "other amounts"}),
        refusal="an ordinary command has stated them since",
    ),
    "the same, and its title was changed past the outbox": Case(
        broken=LAKE,
        pod=in_pod(aggregate=replace(UNEXPLAINED, is_stated=False, changes=(RENAMED,))),
        refusal="an ordinary command has stated them since",
    ),
    "the same, and a person wants it stated again": Case(
        broken=MART,
        pod=in_pod(aggregate=replace(UNEXPLAINED, is_approved=True), left_out={ORDER: "other amounts"}),
        actions=(RESTATED,),
    ),
    "a row of a mart that is left out while its lake is wrong": Case(
        broken=MART,
        pod=in_pod(damage(DamageKind.MISSING), left_out={ORDER: "its payload cannot be read"}),
        actions=(RESTORED, BUILT),
    ),
    "a row of a mart that no event accounts for": Case(
        broken=replace(MART, aggregate_key="eire/order/ghost"), actions=(BUILT,)
    ),
    "entries of an event do not sum to zero": Case(
        broken=a_break(
            1, "journal_identities", "journal_events", key=("e3",), aggregate_key=None, kind=DifferenceClass.IDENTITY
        ),
        actions=(BUILT,),
    ),
    "a sum is wrong by itself": Case(broken=SUM, actions=(BUILT,)),
    "the lake stands beyond the pod's newest cut": Case(
        broken=LAKE,
        pod=in_pod(damage(DamageKind.MISSING), lake_reset_cut=6),
        actions=((ActionKind.SET_LAKE_POSITION, "lake", (), (6,)), RESTORED),
    ),
    "what the lake skipped while it stood beyond the newest cut": Case(
        broken=LAKE,
        pod=in_pod(damage(DamageKind.MISSING), lake_reset_cut=5),
        actions=((ActionKind.SET_LAKE_POSITION, "lake", (), (5,)),),
    ),
    "nothing is wrong any more": Case(broken=LAKE, is_in_order=True),
    "a pair that nobody has a rule for": Case(broken=a_break(1, "provider", "payouts"), refusal="no rule"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_damage_has_its_answer(case: Case) -> None:
    found = planned(case.broken, pod=case.pod)
    assert tuple((action.kind, action.store, action.keys, action.cuts) for action in found.actions) == case.actions
    assert {cause for action in found.actions for cause in action.causes} == ({1} if case.actions else set())
    assert [escalation.break_ids for escalation in found.escalations] == ([(1,)] if case.refusal else [])
    assert all(case.refusal in escalation.reason for escalation in found.escalations)
    assert found.in_order == ((1,) if case.is_in_order else ())
    assert found.deferred == ()
    assert all(action.why and action.pod == "pod1" for action in found.actions)


def built(*breaks: Break, pod: PodEvidence | None = None) -> Action:
    (action,) = planned(*breaks, pod=pod).actions
    assert action.kind is ActionKind.BUILD
    return action


def test_marts_are_built_from_the_lowest_cut_concerned_and_from_nothing_when_that_was_tried() -> None:
    assert built(MART).since == {"pod1": 4}
    journal = a_break(2, "journal_identities", "journal_events", key=("e3",), aggregate_key=None)
    assert built(journal).since == {"pod1": 6}
    assert built(MART, journal).since == {"pod1": 4}
    assert built(SUM).since == {"pod1": 0}
    assert built(replace(SUM, break_id=2), MART).since == {"pod1": 4}
    for again in (replace(MART, repairs=2), replace(SUM, repairs=2), replace(MART, aggregate_key="eire/order/ghost")):
        assert built(again).is_full and built(again).since == {}


def test_a_stored_table_is_built_alone_where_nothing_else_needs_a_build() -> None:
    orders = a_break(3, "lake_warehouse.orders_history", "int_orders_history")
    journal = a_break(4, "lake_warehouse.journal_entries", "int_journal_entries")
    alone = built(orders, journal)
    assert (alone.tables, alone.since, alone.is_full) == (
        ("int_journal_entries", "int_orders_history"),
        {"pod1": 4},
        False,
    )
    assert built(orders, MART).tables == () and built(orders, SUM).tables == ()
    assert built(replace(orders, repairs=2)).is_full and built(replace(orders, repairs=2)).tables == ()
    after_events = planned(orders, pod=in_pod(damage(DamageKind.ALTERED), built_cut=9))
    assert after_events.actions[1].tables == ("int_orders_history",)
    # The journal may be built from the damage, too: that a comparison says.
    assert after_events.maybe_built == {"pod1": {ORDER}}


@pytest.mark.parametrize("kind", [DamageKind.ALTERED, DamageKind.MISSING])
def test_what_may_be_built_from_a_damaged_event_is_compared_and_not_built(kind: DamageKind) -> None:
    damaged = damage(kind)
    found = planned(LAKE, pod=in_pod(damaged, built_cut=6))
    assert [action.kind is ActionKind.BUILD for action in found.actions] == [False]
    assert found.maybe_built == {"pod1": {ORDER}}
    assert planned(LAKE, pod=in_pod(damaged, built_cut=5)).maybe_built == {}
    moved = replace(damaged, held_as=("eire/order/o9",))
    assert planned(LAKE, pod=in_pod(moved, built_cut=6)).maybe_built == {"pod1": {ORDER, "eire/order/o9"}}
    assert planned(LAKE, pod=in_pod(damaged, built_cut=9, begun_after_cut=6)).maybe_built == {"pod1": {ORDER}}


@pytest.mark.parametrize(
    "pod",
    [
        in_pod(damage(DamageKind.EXTRA, source=None), aggregate=replace(RIGHT, clashing=("e2",)), built_cut=6),
        in_pod(damage(DamageKind.ALTERED), built_cut=6, left_out={ORDER: "its total is not that of its lines"}),
        in_pod(damage(DamageKind.ALTERED), built_cut=6, begun_after_cut=5),
        in_pod(damage(DamageKind.MISSING), built_cut=6, lake_reset_cut=7),
    ],
    ids=["never sent", "left out by finance", "being read", "applied again later"],
)
def test_where_a_comparison_cannot_tell_what_was_built_from_a_damage_it_is_built(pod: PodEvidence) -> None:
    found = planned(LAKE, pod=pod)
    (build,) = (action for action in found.actions if action.kind is ActionKind.BUILD)
    assert (build.since, build.tables, build.causes) == ({"pod1": 5}, (), (1,))
    assert found.maybe_built == {}


def test_one_build_serves_all_pods() -> None:
    other = replace(in_pod(aggregate=replace(RIGHT, first_cuts={"pod2": 5}, home="pod2")), pod="pod2")
    breaks = [MART, replace(MART, break_id=2, pod="pod2")]
    (action,) = plan(breaks, {"pod1": in_pod(), "pod2": other}, Budget()).actions
    assert (action.pod, action.since, action.causes) == ("pod1,pod2", {"pod1": 4, "pod2": 4}, (1, 2))


def test_a_sum_goes_the_way_of_its_rows() -> None:
    summed = replace(SUM, break_id=2)
    (restated,) = planned(MART, summed, pod=in_pod(aggregate=UNSTATED)).actions
    assert (restated.kind, restated.causes) == (ActionKind.RESTATE, (1, 2))
    refused = planned(MART, summed, pod=in_pod(aggregate=GONE))
    assert refused.actions == () and {i for e in refused.escalations for i in e.break_ids} == {1, 2}


def test_stores_are_mended_in_the_order_in_which_they_depend_on_each_other() -> None:
    view_of_another = replace(VIEW, break_id=4, aggregate_key="eire/order/o2")
    pod = in_pod(damage(DamageKind.MISSING), lake_parked=frozenset({"eire/order/o3"}))
    unstated = {**pod.aggregates, "eire/order/o2": UNSTATED}
    parked = replace(PARKED, break_id=6, aggregate_key="eire/order/o3")
    breaks = [replace(MART, break_id=9), view_of_another, replace(ENTRY, break_id=3), LAKE, parked]
    found = planned(*breaks, pod=replace(pod, aggregates=unstated))
    assert [action.kind for action in found.actions] == [
        ActionKind.REPUBLISH,
        ActionKind.RESTORE_EVENTS,
        ActionKind.REPLAY_PARKED,
        ActionKind.RESTATE,
        ActionKind.REBUILD_KEYS,
        ActionKind.BUILD,
    ]


def test_breaks_of_one_cause_make_one_action() -> None:
    breaks = [LAKE, replace(OUTBOX, break_id=2), replace(COUNTS, break_id=3)]
    (action,) = planned(*breaks, pod=in_pod(damage(DamageKind.MISSING))).actions
    assert action.causes == (1, 2, 3) and action.keys == ("e2",) and action.source is Source.OUTBOX


def test_a_view_with_more_than_a_thousand_wrong_aggregates_is_rebuilt_as_a_whole() -> None:
    breaks = [replace(VIEW, break_id=n, aggregate_key=f"eire/order/{n}") for n in range(1, 1_002)]
    (some,) = planned(*breaks[:1_000]).actions
    (whole,) = planned(*breaks).actions
    assert some.kind is ActionKind.REBUILD_KEYS and len(some.keys) == 1_000
    assert whole.kind is ActionKind.REBUILD_VIEW and len(whole.causes) == 1_001 and not whole.takes_lake_position
    gap = in_pod(views={"account_view": ViewEvidence(has_gap=True)})
    (behind,) = planned(VIEW, pod=gap).actions
    assert behind.kind is ActionKind.REBUILD_VIEW and behind.takes_lake_position


def test_what_exceeds_the_budget_is_deferred_and_nothing_is_lost_on_the_way() -> None:
    breaks = [replace(VIEW, break_id=n, aggregate_key=f"eire/order/{n}") for n in range(1, 6)]
    found = planned(*breaks, budget=Budget(breaks_max=2))
    assert found.deferred == (3, 4, 5) and found.actions[0].causes == (1, 2)
    mart = replace(MART, break_id=6)
    found = planned(*breaks, mart, budget=Budget(actions_max=1))
    assert found.deferred == (6,) and [action.kind for action in found.actions] == [ActionKind.REBUILD_KEYS]
    assert planned(*breaks, budget=Budget(actions_max=0)).deferred == (1, 2, 3, 4, 5)


def test_many_restatements_are_several_actions() -> None:
    keys = [f"eire/order/{n}" for n in range(250)]
    pod = in_pod(aggregates=dict.fromkeys(keys, UNSTATED))
    breaks = [replace(LAKE, break_id=n + 1, aggregate_key=key) for n, key in enumerate(keys)]
    found = planned(*breaks, pod=pod)
    assert [len(action.keys) for action in found.actions] == [100, 100, 50]
    assert sorted(key for action in found.actions for key in action.keys) == sorted(keys)
