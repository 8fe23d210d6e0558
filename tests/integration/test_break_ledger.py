"""The ledger of breaks on a real PostgreSQL: what opens a break, what ends it, who may change it."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from contracts.breaks import TRANSITIONS, BreakState
from contracts.clock import Clock, utc_now
from contracts.errors import IllegalTransitionError, InputError, NotFoundError, TieoutError
from contracts.progress import SILENT
from contracts.settings import Settings
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass, PairResult, Verdict
from reconcile import results
from repair import audit, holding, ledger
from repair.ledger import states as states_module
from repair.ledger.incidents import waiting_for_repair
from repair.tools import Repairing
from repair.values import KEYS_SHOWN, Action, ActionKind
from stack.composition.repairing import repairing_tools
from stack.looking.outages import outage
from tests.values import one_cent, result_of

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
PAIR = "oltp_lake.order"
VIEW = "lake_account_view"


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """A control database with an empty ledger."""
    made = make_database("tieout_control")
    for _ in range(2):
        ledger.migrate(made)
        audit.migrate(made)
    return made


def at(minute: float) -> datetime:
    """Return a moment so many minutes after noon."""
    return NOON + timedelta(minutes=minute)


def clock(minute: float) -> Callable[[], datetime]:
    return lambda: at(minute)


def amount(order: str, difference: int = 1, *, kind: DifferenceClass = DifferenceClass.AMOUNT) -> Difference:
    """Return an order whose total is off by so many minor units."""
    columns = (
        ColumnDifference(column="total_minor", left=100, right=100 + difference, difference=difference),
        ColumnDifference(column="status", left="placed", right=None),
    )
    found = one_cent(order, entity="orders", kind=kind, currency="EUR", columns=columns)
    return replace(found, key=(order, None))


def found(cut: int, *differences: Difference, pair: str = PAIR, pod: str = "pod1", unlisted: int = 0) -> PairResult:
    """Return what a comparison at a cut found, at that minute after noon; `unlisted` more amounts differ."""
    classes: dict[str, int] = {}
    for item in differences:
        classes[item.kind.value] = classes.get(item.kind.value, 0) + 1
    if unlisted:
        classes["amount"] = classes.get("amount", 0) + unlisted
    verdict = Verdict.INCONSISTENT if classes else Verdict.CONSISTENT
    counts = {"compared": 100, "different": sum(classes.values()), "classes": classes}
    return result_of(pair, verdict, pod=pod, cut=cut, sample=differences, checked_at=at(cut), **counts)


def record(dsn: str, *results: PairResult, run: str = "sweep") -> ledger.Recorded:
    return ledger.record(dsn, results, run=run)


def act(
    dsn: str,
    run: str,
    *break_ids: int,
    minute: float,
    pod: str = "pod1",
    is_killed: bool = False,
    store: str = "lake",
    changed: int | None = None,
    kind: ActionKind = ActionKind.REBUILD_KEYS,
    keys: tuple[str, ...] = ("a",),
) -> None:
    """Have the audit say that a repair did something because of these breaks, at that minute."""
    if run not in holding.interrupted_runs(dsn, [pod]):
        audit.begin_run(dsn, run, [pod], at(minute))
    action = Action(kind=kind, store=store, pod=pod, keys=keys, causes=break_ids, why="They differ.")
    action_id = audit.begin_action(dsn, run, action, {}, now=at(minute), lease_seconds=60)
    if not is_killed:
        audit.end_action(dsn, action_id, now=at(minute), after={}, changed=changed)


def states(dsn: str, **chosen) -> dict[str, BreakState]:
    """Return the state of every break, the newest of a key, by order."""
    return {str(one.key[0]): one.state for one in ledger.breaks(dsn, **chosen)}


def test_a_difference_becomes_a_break_is_seen_again_and_vanishes(dsn: str) -> None:
    recorded = record(dsn, found(10, amount("a"), amount("b")), run="first")
    assert (recorded.breaks_opened, recorded.opened_group_ids, recorded.breaks_ended) == (2, (1,), 0)
    (first, second) = ledger.breaks(dsn)
    assert first == ledger.find_break(dsn, first.break_id)
    assert (first.pair, first.pod, first.entity, first.key) == (PAIR, "pod1", "orders", ("a", None))
    assert (first.kind, first.state, first.owner) == (DifferenceClass.AMOUNT, BreakState.OPEN, "data-platform")
    assert (first.merchant_id, first.day, first.currency) == ("eire", "2026-01-05", "EUR")
    assert (first.aggregate_key, first.columns) == ("eire/order/a", amount("a").columns)
    assert (first.first_seen_cut, first.times_seen, first.ended_at) == (10, 1, None)
    assert second.group_id == first.group_id

    recorded = record(dsn, found(11, amount("a", 7)), run="second")
    assert (recorded.breaks_seen, recorded.breaks_vanished, recorded.ended_group_ids) == (1, 1, ())
    seen = ledger.find_break(dsn, first.break_id)
    assert (seen.times_seen, seen.first_seen_cut, seen.last_seen_cut, seen.last_seen_at) == (2, 10, 11, at(11))
    assert seen.columns == amount("a", 7).columns
    gone = ledger.find_break(dsn, second.break_id)
    assert (gone.state, gone.ended_at) == (BreakState.VANISHED, at(11)) and "cut 11" in gone.reason
    assert [(item.from_state, item.to_state, item.by, item.run) for item in ledger.history(dsn, gone.break_id)] == [
        (None, BreakState.OPEN, "comparison", "first"),
        (BreakState.OPEN, BreakState.VANISHED, "comparison", "second"),
    ]
    recorded = record(dsn, found(12))
    assert (recorded.breaks_vanished, recorded.ended_group_ids) == (1, (1,))
    assert ledger.groups(dsn) == [] and ledger.find_group(dsn, 1).is_ended

    recorded = record(dsn, found(13, amount("a")))
    assert recorded.opened_group_ids == (2,), "a key that breaks again is a new break of a new incident"
    assert [one.state for one in ledger.breaks(dsn)] == ["vanished", "vanished", "open"]


def test_late_and_unknown_change_nothing(dsn: str) -> None:
    record(dsn, found(10, amount("a")))
    for verdict in (Verdict.LATE, Verdict.UNKNOWN):
        nothing = replace(found(11), verdict=verdict, compared=0, reason="It did not answer.")
        assert record(dsn, nothing) == ledger.Recorded(run="sweep")
    assert states(dsn) == {"a": BreakState.OPEN}


def test_a_copy_that_is_late_with_a_parked_key_was_compared_in_all_others(dsn: str) -> None:
    record(dsn, found(10, amount("a"), amount("b")))
    late = replace(found(11), verdict=Verdict.LATE, compared=5, late_keys=1, late_aggregates=("eire/order/b",))
    recorded = record(dsn, late)
    assert (recorded.breaks_ended, states(dsn)) == (1, {"a": BreakState.VANISHED, "b": BreakState.OPEN})


def test_a_repair_that_holds_ends_the_break_as_repaired(dsn: str) -> None:
    record(dsn, found(10, amount("a"), amount("b")))
    (claimed,) = ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(10.5))
    assert (claimed.key[0], claimed.state, claimed.repairs) == ("a", BreakState.REPAIRING, 1)
    act(dsn, "fix", claimed.break_id, minute=10.6)
    recorded = record(dsn, found(11, amount("b")), run="fix")
    assert (recorded.breaks_repaired, recorded.breaks_vanished) == (1, 0)
    assert ledger.settle(dsn, "fix", attempts_max=3) == ledger.Settled(repaired=1)
    mended = ledger.find_break(dsn, claimed.break_id)
    assert mended.state is BreakState.REPAIRED and "cut 11" in mended.reason and "fix" in mended.reason
    assert [(item.to_state, item.by) for item in ledger.history(dsn, mended.break_id)] == [
        (BreakState.OPEN, "comparison"),
        (BreakState.REPAIRING, "repair"),
        (BreakState.REPAIRED, "comparison"),
    ]


def test_a_repair_that_had_nothing_to_do_leaves_no_trace_of_a_repair(dsn: str) -> None:
    record(dsn, found(10, amount("a"), amount("b")))
    ledger.claim(dsn, run="fix", limit=2, lease_seconds=60, clock=clock(10.5))
    act(dsn, "fix", 1, minute=10.6)
    recorded = record(dsn, found(11), run="fix")
    assert (recorded.breaks_repaired, recorded.breaks_vanished) == (1, 1)
    settled = ledger.settle(dsn, "fix", attempts_max=3)
    assert settled == ledger.Settled(repaired=1, vanished=1) and settled.ended == 2
    assert states(dsn) == {"a": BreakState.REPAIRED, "b": BreakState.VANISHED}
    assert "no repair mended it" in ledger.find_break(dsn, 2).reason
    assert [item.to_state for item in ledger.history(dsn, 2)] == ["open", "repairing", "vanished"]


def test_what_mends_an_aggregate_repairs_every_break_of_it_and_the_sums_over_it(dsn: str) -> None:
    def sum_in(currency: str | None, day: str | None = "2026-01-05") -> Difference:
        key = ("eire", day, currency)
        return replace(amount("a"), entity="sums", key=key, aggregate_key=None, currency=currency, day=day)

    sums = "operational_finance.tax"
    record(dsn, found(10, amount("a"), amount("b")))
    record(dsn, found(10, amount("a"), pair=VIEW))
    record(dsn, found(10, sum_in("EUR"), sum_in(None, day=None), sum_in("GBP"), pair=sums))
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(10.5))
    act(dsn, "fix", 1, minute=10.6)
    # Found only after the repair was through with it: that cannot have mended it.
    record(dsn, found(11, amount("a"), pair="outbox_log"))
    record(dsn, *(found(12, pair=pair) for pair in (PAIR, VIEW, sums, "outbox_log")))
    ended = {(item.pair, item.key): item.state for item in ledger.breaks(dsn)}
    assert ended == {
        (PAIR, ("a", None)): BreakState.REPAIRED,
        (PAIR, ("b", None)): BreakState.VANISHED,
        (VIEW, ("a", None)): BreakState.REPAIRED,
        (sums, ("eire", "2026-01-05", "EUR")): BreakState.REPAIRED,
        (sums, ("eire", None, None)): BreakState.REPAIRED,
        (sums, ("eire", "2026-01-05", "GBP")): BreakState.VANISHED,
        ("outbox_log", ("a", None)): BreakState.VANISHED,
    }
    assert all("after the repair fix" in item.reason for item in ledger.breaks(dsn, states=[BreakState.REPAIRED]))


def test_a_repair_that_was_killed_or_not_looked_at_afterwards_is_a_repair(dsn: str) -> None:
    record(dsn, found(10, amount("a"), amount("b")))
    ledger.claim(dsn, run="killed", limit=1, lease_seconds=60, clock=clock(10.5))
    act(dsn, "killed", 1, minute=10.6, is_killed=True)
    ledger.settle(dsn, "killed", attempts_max=3)
    ledger.claim(dsn, run="next", limit=1, lease_seconds=60, break_ids=[2], clock=clock(10.7))
    act(dsn, "next", 2, minute=10.8)
    assert ledger.settle(dsn, "next", attempts_max=3).reopened == (2,)
    assert record(dsn, found(12)).breaks_repaired == 2
    assert "killed" in ledger.find_break(dsn, 1).reason and "next" in ledger.find_break(dsn, 2).reason


def test_only_a_comparison_at_a_later_cut_says_anything(dsn: str) -> None:
    record(dsn, found(10, amount("a")), found(12, pair="oltp_lake.payment"))
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(12.5))
    # Taken before the repair began, recorded after it: the cut is not beyond those that were known then.
    early = replace(found(11), checked_at=at(13))
    assert record(dsn, early).breaks_ended == 0 and states(dsn) == {"a": BreakState.REPAIRING}
    act(dsn, "fix", 1, minute=13)
    assert record(dsn, found(14)).breaks_repaired == 1
    # A comparison that was overtaken on its way neither opens nor ends anything.
    overtaken = replace(found(13, amount("a"), amount("b")), checked_at=at(15))
    assert record(dsn, overtaken) == ledger.Recorded(run="sweep", results_overtaken=1)
    # The same result twice is one comparison.
    once = found(15, amount("a"))
    assert record(dsn, once).breaks_opened == 1 and record(dsn, once).results_overtaken == 1
    assert ledger.breaks(dsn, states=[BreakState.OPEN])[0].times_seen == 1
    # A pod that was put back to an earlier state counts its cuts again.
    restored = replace(found(3), checked_at=at(15 + 120))
    assert record(dsn, restored).breaks_vanished == 1


def test_after_an_epoch_was_opened_lower_cuts_end_old_breaks_at_once(dsn: str) -> None:
    record(dsn, found(7_030, amount("a")))
    recorded = record(dsn, replace(found(3, amount("b")), checked_at=at(7_031), epoch_opened_at=at(7_030.5)))
    assert (recorded.breaks_vanished, recorded.breaks_opened, recorded.results_overtaken) == (1, 1, 0)
    late = replace(found(7_031, amount("a")), checked_at=at(7_032))
    assert record(dsn, late).results_overtaken == 1, "begun before the epoch was opened"
    assert record(dsn, replace(found(4), checked_at=at(7_033), epoch_opened_at=at(7_030.5))).breaks_vanished == 1


def test_a_copy_that_chooses_the_cut_is_ordered_by_time(dsn: str) -> None:
    chosen = {"0": "10", "1": "10"}
    record(dsn, replace(found(10, amount("a"), pair=VIEW), cut_vector=chosen))
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(11))
    act(dsn, "fix", 1, minute=11)
    again = replace(found(10, pair=VIEW), cut_vector=chosen, checked_at=at(12))
    assert record(dsn, again).breaks_repaired == 1, "the view stands where it stood, and is mended"
    earlier = replace(found(10, amount("a"), pair=VIEW), cut_vector=chosen, checked_at=at(11))
    assert record(dsn, earlier).results_overtaken == 1


def test_a_list_that_was_cut_off_proves_nothing_about_the_keys_it_lacks(dsn: str) -> None:
    record(dsn, found(10, amount("a"), amount("b"), unlisted=5))
    assert ledger.find_group(dsn, 1).keys == 7
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(10.5))
    recorded = record(dsn, found(11, amount("c"), unlisted=4))
    assert (recorded.breaks_opened, recorded.breaks_ended) == (1, 0)
    assert ledger.find_group(dsn, 1).keys == 7, "a, b, c and four that were never listed"
    settled = ledger.settle(dsn, "fix", attempts_max=1)
    assert len(settled.reopened) == 1 and settled.escalated == (), "nobody knows whether it holds"
    # What was tried least comes first, so that b and c get their turn before a again.
    taken = ledger.claim(dsn, run="next", limit=2, lease_seconds=60, clock=clock(11.5))
    assert [one.key[0] for one in taken] == ["b", "c"]
    act(dsn, "next", *(one.break_id for one in taken), minute=11.6)
    recorded = record(dsn, found(12, amount("d")))
    assert (recorded.breaks_repaired, recorded.breaks_vanished, recorded.breaks_opened) == (2, 1, 1)
    assert (ledger.find_group(dsn, 1).keys, recorded.ended_group_ids) == (7, ())


def test_what_a_copy_has_parked_was_not_compared_and_does_not_vanish(dsn: str) -> None:
    record(dsn, found(10, amount("a"), amount("b")))
    parked = replace(found(11, amount("c")), late_keys=1, late_aggregates=("eire/order/a",))
    assert record(dsn, parked).breaks_vanished == 1
    assert states(dsn) == {"a": BreakState.OPEN, "b": BreakState.VANISHED, "c": BreakState.OPEN}


def test_ten_thousand_keys_are_one_incident(dsn: str) -> None:
    many = [amount(f"order-{number:05}") for number in range(10_000)]
    recorded = record(dsn, found(10, *many, unlisted=5_000))
    again = record(dsn, found(11, *many, unlisted=5_000))
    for minute in (11.2, 11.4, 11.6):
        act(dsn, f"fix at {minute}", *range(1, 10_001), minute=minute)
    ended = record(dsn, found(12))
    assert (recorded.breaks_opened, recorded.opened_group_ids, again.breaks_seen) == (10_000, (1,), 10_000)
    assert (ended.breaks_repaired, ended.ended_group_ids) == (10_000, (1,))
    assert ledger.find_group(dsn, 1).keys == 15_000
    assert ledger.count_breaks(dsn)[BreakState.REPAIRED] == 10_000


def test_incidents_are_told_apart_by_pair_pod_and_class_and_joined_while_they_last(dsn: str) -> None:
    first = record(
        dsn,
        found(10, amount("a"), amount("b", kind=DifferenceClass.MISSING)),
        found(10, amount("a"), pod="pod2"),
        found(10, amount("a"), pair="operational_finance.orders"),
    )
    assert len(first.opened_group_ids) == 4
    owners = {one.owner for one in ledger.breaks(dsn, pair="operational_finance")}
    assert owners == {"finance"}
    joined = record(dsn, found(11, amount("a"), amount("b", kind=DifferenceClass.MISSING), amount("c")))
    assert joined.opened_group_ids == () and joined.breaks_opened == 1
    group = next(one for one in ledger.groups(dsn) if (one.pair, one.pod, one.kind) == (PAIR, "pod1", "amount"))
    assert (group.keys, group.counts, group.opened_cut) == (2, {BreakState.OPEN: 2}, 10)
    assert len(ledger.breaks(dsn, group_id=group.group_id)) == 2 and len(ledger.breaks(dsn, limit=1)) == 1
    assert len(ledger.breaks(dsn, merchant_id="eire", pod="pod2")) == 1 and ledger.breaks(dsn, merchant_id="x") == []
    assert {one.pair for one in ledger.breaks(dsn, aggregate_keys=["eire/order/a"])} == {
        PAIR,
        "operational_finance.orders",
    }


def test_people_accept_with_a_reason_until_the_difference_is_another(dsn: str) -> None:
    record(dsn, found(10, amount("a", 1)))
    with pytest.raises(InputError, match="reason"):
        ledger.accept(dsn, break_ids=[1], reason="  ", by="ada")
    assert ledger.assign(dsn, break_ids=[1], owner="grace", by="ada") == [1]
    assert ledger.accept(dsn, break_ids=[1], reason="Known since the import.", by="ada") == [1]
    assert ledger.claim(dsn, run="fix", limit=9, lease_seconds=60) == [], "what is accepted is not repaired"
    record(dsn, found(11, amount("a", 1)))
    accepted = ledger.find_break(dsn, 1)
    assert (accepted.state, accepted.reason, accepted.owner) == (
        BreakState.ACCEPTED,
        "Known since the import.",
        "grace",
    )
    assert record(dsn, found(12, amount("a", 500))).breaks_reopened == 1
    assert ledger.find_break(dsn, 1).state is BreakState.OPEN
    assert [(item.from_state, item.to_state, item.by) for item in ledger.history(dsn, 1)] == [
        (None, BreakState.OPEN, "comparison"),
        (BreakState.OPEN, BreakState.OPEN, "ada"),
        (BreakState.OPEN, BreakState.ACCEPTED, "ada"),
        (BreakState.ACCEPTED, BreakState.OPEN, "comparison"),
    ]
    ledger.accept(dsn, group_id=1, reason="Still.", by="ada")
    assert ledger.reopen(dsn, group_id=1, by="grace") == [1] and ledger.find_break(dsn, 1).state is BreakState.OPEN


def test_no_transition_happens_that_the_table_does_not_allow(dsn: str) -> None:
    record(dsn, found(10, amount("a"), amount("b"), amount("c")))
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60)
    with pytest.raises(IllegalTransitionError, match="Break 1 is repairing and cannot become accepted"):
        ledger.accept(dsn, break_ids=[1, 2], reason="No.", by="ada")
    assert states(dsn)["b"] is BreakState.OPEN, "all or none"
    assert ledger.accept(dsn, group_id=1, reason="These two.", by="ada") == [2, 3]
    with pytest.raises(IllegalTransitionError, match="cannot become open"):
        ledger.reopen(dsn, break_ids=[1], by="ada")
    assert ledger.escalate(dsn, [1], reason="Two owners disagree.", by="repair", run="fix") == [1]
    record(dsn, found(11))
    with pytest.raises(IllegalTransitionError):
        ledger.accept(dsn, break_ids=[1], reason="Too late.", by="ada")
    assert ledger.escalate(dsn, [1], reason="Too late.", by="ada") == [], "it ended while it was being looked at"
    for missing in ({"break_ids": [99]}, {"group_id": 99}):
        with pytest.raises(NotFoundError, match="99"):
            ledger.assign(dsn, owner="grace", by="ada", **missing)
    with pytest.raises(InputError, match="one of the two"):
        ledger.assign(dsn, owner="grace", by="ada", break_ids=[1], group_id=1)
    with pytest.raises(NotFoundError):
        ledger.find_break(dsn, 99)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select from_state, to_state from trust.break_history where from_state is not null")
        changes = {(BreakState(old), BreakState(new)) for old, new in rows if old != new}
    assert changes and all(new in TRANSITIONS[old] for old, new in changes)


def test_a_repair_that_does_not_hold_is_tried_again_and_then_put_before_people(dsn: str) -> None:
    record(dsn, found(10, amount("a")))
    for attempt, (cut, outcome) in enumerate(((11, "reopened"), (12, "escalated")), start=1):
        (claimed,) = ledger.claim(dsn, run=f"fix {attempt}", limit=9, lease_seconds=60, clock=clock(cut - 0.5))
        assert claimed.repairs == attempt
        record(dsn, found(cut, amount("a")))
        assert states(dsn) == {"a": BreakState.REPAIRING}, "the repair decides, not the comparison"
        settled = ledger.settle(dsn, f"fix {attempt}", attempts_max=2)
        assert getattr(settled, outcome) == (1,) and settled.repaired == 0
    escalated = ledger.find_break(dsn, 1)
    assert (escalated.state, escalated.repairs) == (BreakState.ESCALATED, 2)
    assert escalated.reason == "2 repairs did not hold: the comparison at cut 12 still found the difference."
    assert ledger.claim(dsn, run="fix 3", limit=9, lease_seconds=60) == []


def test_a_comparison_that_said_nothing_does_not_escalate_and_release_does_not_count(dsn: str) -> None:
    record(dsn, found(10, amount("a")))
    ledger.claim(dsn, run="fix", limit=9, lease_seconds=60, clock=clock(11))
    assert ledger.settle(dsn, "fix", attempts_max=1) == ledger.Settled(repaired=0, reopened=(1,))
    ledger.claim(dsn, run="next", limit=9, lease_seconds=60, clock=clock(12))
    assert ledger.release(dsn, "next", reason="The budget was reached.") == [1]
    released = ledger.find_break(dsn, 1)
    assert (released.state, released.repairs, released.reason) == (BreakState.OPEN, 1, "The budget was reached.")


def test_a_lease_that_ran_out_lets_the_next_repair_in(dsn: str) -> None:
    record(dsn, found(10, amount("a"), amount("b"), pod="pod1"), found(10, amount("a"), pod="pod2"))
    first = ledger.claim(dsn, run="killed", limit=9, lease_seconds=60, pods=["pod1"], clock=clock(11))
    assert len(first) == 2 and {one.pod for one in first} == {"pod1"}
    assert ledger.claim(dsn, run="next", limit=9, lease_seconds=60, pods=["pod1"], clock=clock(11.9)) == []
    again = ledger.claim(
        dsn, run="next", limit=9, lease_seconds=60, break_ids=[first[0].break_id], pairs=["oltp_lake"], clock=clock(12)
    )
    assert [(one.break_id, one.repairs) for one in again] == [(first[0].break_id, 2)]
    assert ledger.settle(dsn, "killed", attempts_max=9).reopened == (first[1].break_id,)
    assert ledger.release(dsn, "next", reason="Stopped.") == [first[0].break_id]


def test_two_repairs_at_once_never_get_the_same_break(dsn: str) -> None:
    record(dsn, found(10, *(amount(f"order-{number:03}") for number in range(100))))
    barrier = threading.Barrier(4)
    claimed: dict[str, list[int]] = {}

    def take(run: str) -> None:
        barrier.wait()
        claimed[run] = [one.break_id for one in ledger.claim(dsn, run=run, limit=30, lease_seconds=60)]

    threads = [threading.Thread(target=take, args=(f"fix {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [break_id for ids in claimed.values() for break_id in ids]
    assert len(everything) == len(set(everything)) == 100
    assert sorted(len(ids) for ids in claimed.values()) == [10, 30, 30, 30]


def moment(dsn: str) -> int:
    number = ledger.next_moment(dsn)
    assert number is not None
    return number


def test_of_a_view_what_was_read_last_is_newer_whichever_ends_last(dsn: str) -> None:
    chosen = {"0": "10", "1": "10"}
    slow = replace(found(10, pair=VIEW), cut_vector=chosen, moment=moment(dsn), checked_at=at(30))
    quick = replace(found(10, amount("a"), pair=VIEW), cut_vector=chosen, moment=moment(dsn), checked_at=at(20))
    assert record(dsn, quick).breaks_opened == 1
    # It read the view before the damage, and is through only now.
    assert record(dsn, slow).results_overtaken == 1 and states(dsn) == {"a": BreakState.OPEN}
    # A clock that was set back by hours orders nothing.
    later = replace(found(10, pair=VIEW), cut_vector=chosen, moment=moment(dsn), checked_at=at(-300))
    assert record(dsn, later).breaks_vanished == 1


@pytest.mark.parametrize("cut_vector", [{}, {"0": "12"}])
def test_a_break_that_was_seen_while_a_comparison_read_is_not_ended_by_it(dsn: str, cut_vector: dict[str, str]) -> None:
    early = moment(dsn)
    record(dsn, replace(found(10, amount("a")), moment=moment(dsn), cut_vector=cut_vector))
    # Its cut is higher and it ends later, but it may have read the copy before the damage was done.
    overlapping = replace(found(12), moment=early + 1, cut_vector=cut_vector)
    assert record(dsn, overlapping).breaks_ended == 0
    assert record(dsn, replace(found(13), moment=moment(dsn), cut_vector=cut_vector)).breaks_vanished == 1


@pytest.mark.parametrize("cut_vector", [{}, {"0": "12"}])
def test_a_claim_is_proved_only_by_a_comparison_that_began_after_it(dsn: str, cut_vector: dict[str, str]) -> None:
    record(dsn, replace(found(10, amount("a")), moment=moment(dsn), cut_vector=cut_vector))
    begun_before = moment(dsn)
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(11))
    act(dsn, "fix", 1, minute=11)
    before = replace(found(12), moment=begun_before, cut_vector=cut_vector, checked_at=at(13))
    assert record(dsn, before).breaks_ended == 0 and states(dsn) == {"a": BreakState.REPAIRING}
    # Its own comparison: the clock of that process is an hour behind.
    after = replace(found(13), moment=moment(dsn), cut_vector=cut_vector, checked_at=at(-60))
    assert record(dsn, after).breaks_ended == 1


def test_a_difference_that_was_seen_before_the_claim_does_not_count_against_the_repair(dsn: str) -> None:
    record(dsn, replace(found(10, amount("a")), moment=moment(dsn)))
    begun_before = moment(dsn)
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(11))
    record(dsn, replace(found(12, amount("a")), moment=begun_before, checked_at=at(15)))
    assert ledger.settle(dsn, "fix", attempts_max=1).escalated == ()
    ledger.claim(dsn, run="again", limit=1, lease_seconds=60, clock=clock(16))
    record(dsn, replace(found(17, amount("a")), moment=moment(dsn), checked_at=at(-60)))
    assert ledger.settle(dsn, "again", attempts_max=1).escalated == (1,)


def test_a_lower_cut_that_began_later_is_of_a_pod_that_was_put_back(dsn: str) -> None:
    overlapping = moment(dsn)
    record(dsn, replace(found(10, amount("a")), moment=moment(dsn)))
    assert record(dsn, replace(found(9), moment=overlapping, checked_at=at(11))).results_overtaken == 1
    assert record(dsn, replace(found(3), moment=moment(dsn), checked_at=at(11))).breaks_vanished == 1


def test_many_breaks_are_settled_in_a_few_statements(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = 2_000
    record(dsn, replace(found(10, *(amount(str(one)) for one in range(number))), moment=moment(dsn)))
    assert len(ledger.claim(dsn, run="fix", limit=number, lease_seconds=60, clock=clock(11))) == number
    seen = [amount(str(one)) for one in range(number // 2)]
    record(dsn, replace(found(12, *seen), moment=moment(dsn), different=number, classes={"amount": number}))
    calls = 0
    write = states_module._write

    def counted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        write(*arguments)

    monkeypatch.setattr(states_module, "_write", counted)
    settled = ledger.settle(dsn, "fix", attempts_max=1)
    assert (len(settled.escalated), len(settled.reopened)) == (number // 2, number // 2)
    assert calls == 2
    changes = ledger.history(dsn, settled.reopened[0])
    assert (changes[-1].to_state, changes[-1].run) == (BreakState.OPEN, "fix")


@pytest.mark.parametrize(
    ("pair", "store", "changed", "state"),
    [
        (PAIR, "lake", 1, BreakState.REPAIRED),
        (PAIR, "lake", None, BreakState.REPAIRED),
        (PAIR, "lake", 0, BreakState.VANISHED),
        (VIEW, "account_view", 3, BreakState.REPAIRED),
        (VIEW, "account_view", 0, BreakState.VANISHED),
        (VIEW, "lake", 3, BreakState.REPAIRED),
        # What is computed from the lake mends nothing in the lake.
        (PAIR, "account_view", 3, BreakState.VANISHED),
        (PAIR, "warehouse", None, BreakState.VANISHED),
    ],
)
def test_only_what_a_repair_has_changed_is_repaired(
    dsn: str, pair: str, store: str, changed: int | None, state: BreakState
) -> None:
    record(dsn, found(10, amount("a"), pair=pair))
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(11))
    act(dsn, "fix", 1, minute=11, store=store, changed=changed)
    record(dsn, found(13, pair=pair))
    assert states(dsn) == {"a": state}
    (action,) = audit.actions(dsn, now=at(14))
    assert action.outcome == ("nothing_to_do" if changed == 0 else "done")
    settled = ledger.settle(dsn, "fix", attempts_max=3)
    assert (settled.repaired, settled.vanished) == ((1, 0) if state is BreakState.REPAIRED else (0, 1))


MANY_OTHERS = tuple(f"eire/order/{number}" for number in range(KEYS_SHOWN + 1))
MANY = (*MANY_OTHERS, "eire/order/b")


@pytest.mark.parametrize(
    ("kind", "store", "keys", "changed", "state"),
    [
        (ActionKind.BUILD, "warehouse", (), 1, BreakState.VANISHED),
        (ActionKind.REPLAY_PARKED, "account_view", MANY_OTHERS, 1, BreakState.VANISHED),
        (ActionKind.REPLAY_PARKED, "account_view", ("eire/order/b",), 1, BreakState.REPAIRED),
        (ActionKind.REPLAY_PARKED, "account_view", MANY, 1, BreakState.REPAIRED),
        (ActionKind.REBUILD_VIEW, "account_view", (), 1, BreakState.REPAIRED),
        (ActionKind.REPLAY_PARKED, "account_view", ("eire/order/c",), 1, BreakState.VANISHED),
        (ActionKind.REPLAY_PARKED, "fulfillment_view", ("eire/order/b",), 1, BreakState.VANISHED),
        (ActionKind.REBUILD_VIEW, "account_view", (), 0, BreakState.VANISHED),
    ],
)
def test_what_is_found_while_a_repair_is_at_it_is_repaired_by_it(
    dsn: str, kind: ActionKind, store: str, keys: tuple[str, ...], changed: int, state: BreakState
) -> None:
    pair = "operational_finance.orders" if store == "warehouse" else VIEW
    record(dsn, found(10, amount("a"), pair=pair))
    ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(10.5))
    record(dsn, found(11, amount("a"), amount("b"), pair=pair))
    act(dsn, "fix", 1, minute=11.5, store=store, changed=changed, kind=kind, keys=keys)
    record(dsn, found(12, pair=pair))
    assert states(dsn)["b"] == state
    # What is found afterwards it cannot have mended.
    record(dsn, found(13, amount("c"), pair=pair))
    record(dsn, found(14, pair=pair))
    assert states(dsn)["c"] == BreakState.VANISHED


def test_a_repair_whose_lock_was_lost_is_not_taken_for_one_that_was_killed(dsn: str) -> None:
    with holding.holding_pods(dsn, ["pod1", "pod2"]) as held, holding.living("fix"):
        assert held.pods == ("pod1", "pod2")
        audit.begin_run(dsn, "fix", ["pod1"], at(1))
        held.check()
        end = (
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'tieout repair' and datname = current_database()"
        )
        with psycopg.connect(dsn) as other:
            assert other.execute(end).fetchall() == [(True,)]
        # Others can tell: the session is gone, the process is not.
        with holding.holding_pods(dsn, ["pod1", "pod2"]) as others:
            assert others.pods == ("pod2",)
        assert holding.interrupted_runs(dsn, ["pod1"]) == []
        # And so can it: nothing is done any more.
        with pytest.raises(TieoutError, match="was lost"):
            held.check()
    assert holding.interrupted_runs(dsn, ["pod1"]) == ["fix"]
    with holding.holding_pods(dsn, ["pod1"]) as next_one:
        assert next_one.pods == ("pod1",)


def test_a_run_of_a_process_that_is_gone_was_killed(dsn: str) -> None:
    audit.begin_run(dsn, "fix", ["pod1"], at(1))
    with psycopg.connect(dsn) as connection:
        # Another process has the id by now.
        connection.execute("update trust.repair_runs set process_id = pg_backend_pid(), process_started = 1")
    assert holding.interrupted_runs(dsn, ["pod1"]) == ["fix"]


def test_breaks_of_a_repair_that_was_killed_wait_for_the_next_before_their_lease_is_over(dsn: str) -> None:
    record(dsn, found(1, amount("a")))
    with holding.holding_pods(dsn, ["pod1"]), holding.living("fix"):
        audit.begin_run(dsn, "fix", ["pod1"], at(1))
        assert ledger.claim(dsn, run="fix", limit=10, lease_seconds=900, clock=clock(1))
        assert holding.abandoned_runs(dsn) == [] and waiting_for_repair(dsn, at(2), holding.abandoned_runs(dsn)) == []
    with holding.holding_pods(dsn, ["pod1"]):  # somebody begins a repair of the pod, and settles what it finds
        assert holding.abandoned_runs(dsn) == []
    assert holding.abandoned_runs(dsn) == ["fix"]
    (waiting,) = waiting_for_repair(dsn, at(2), holding.abandoned_runs(dsn))
    assert (waiting.attempt, waiting.is_claimed) == (2, False)
    assert waiting_for_repair(dsn, at(2)) == []


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_claim_runs_out_by_the_clock_of_the_ledger(settings: Settings, hours: int) -> None:
    dsn = settings.control_dsn
    ledger.migrate(dsn)
    audit.migrate(dsn)
    ledger.record(dsn, [found(1, amount("a"))], run="compare")

    def tools(clock: Clock) -> Repairing:
        with repairing_tools(settings, SILENT, is_propagated=False, clock=clock) as made:
            return made

    def claimed(run: str, by: Repairing) -> list[int]:
        return [one.break_id for one in ledger.claim(dsn, run=run, limit=9, lease_seconds=900, clock=by.clock)]

    # Of two machines one has a clock that is hours away; neither may take what the other works on.
    wrong, right = tools(lambda: utc_now() + timedelta(hours=hours)), tools(utc_now)
    assert claimed("first", wrong) == [1] and claimed("second", right) == []
    assert waiting_for_repair(dsn, right.clock()) == [] and waiting_for_repair(dsn, wrong.clock()) == []
    ledger.release(dsn, "first", reason="It is done.")
    assert claimed("second", right) == [1] and claimed("first", wrong) == []


def delete_breaks(dsn: str) -> None:
    """Delete all breaks past what refuses it, as only the owner of the tables can."""
    with psycopg.connect(dsn) as connection:
        connection.execute("alter table trust.breaks disable trigger user")
        connection.execute("alter table trust.break_history drop constraint break_history_break_id_fkey")
        connection.execute("delete from trust.breaks")
        connection.execute(
            "alter table trust.break_history add constraint break_history_break_id_fkey "
            "foreign key (break_id) references trust.breaks not valid"
        )
        connection.execute("alter table trust.breaks enable trigger user")


def test_deleted_breaks_are_found_again_as_open_whatever_was_decided_about_them(dsn: str) -> None:
    record(dsn, found(1, amount("o1"), amount("o2")))
    accepted = next(item for item in ledger.breaks(dsn) if item.key[0] == "o2")
    ledger.accept(dsn, break_ids=[accepted.break_id], by="ada", reason="Known.")
    with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.CheckViolation, match="is evidence"):
        connection.execute("delete from trust.breaks")
    delete_breaks(dsn)
    assert ledger.breaks(dsn) == []

    again = record(dsn, found(2, amount("o1"), amount("o2")))
    assert again.breaks_opened == 2
    assert {(item.key[0], item.state, item.reason) for item in ledger.breaks(dsn)} == {
        ("o1", BreakState.OPEN, ""),
        ("o2", BreakState.OPEN, ""),
    }
    # An incident whose breaks are all gone does not stay open for ever.
    delete_breaks(dsn)
    record(dsn, found(3))
    assert ledger.groups(dsn) == []


def test_a_counter_that_was_set_back_goes_on_above_what_is_known(dsn: str) -> None:
    results.migrate(dsn)
    record(dsn, replace(found(1, amount("a")), moment=ledger.next_moment(dsn)))
    assert ledger.claim(dsn, run="fix", limit=1, lease_seconds=60, clock=clock(1))
    with psycopg.connect(dsn) as connection:
        ((highest,),) = connection.execute("select last_value from trust.moments").fetchall()
        connection.execute("alter sequence trust.moments restart")
    moment = ledger.next_moment(dsn)
    assert moment is not None and moment > highest
    assert record(dsn, replace(found(2), moment=moment)).results_overtaken == 0
    assert (ledger.next_moment(dsn) or 0) > moment


def test_a_number_that_is_given_twice_is_told_with_what_to_run(dsn: str) -> None:
    record(dsn, found(1, amount("a")))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("alter table trust.break_history alter column history_id restart")
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        record(dsn, found(2, amount("a"), amount("b")))
    sentence = outage(refused.value)
    assert sentence is not None and sentence.startswith("The sequence of trust.break_history.history_id was set back")
    with psycopg.connect(dsn) as connection:
        connection.execute(sentence.partition("run: ")[2].encode())
    assert record(dsn, found(2, amount("a"), amount("b"))).breaks_opened == 1


def test_a_key_of_any_length_keeps_no_other_out(dsn: str) -> None:
    long = base64.b64encode(random.Random(7).randbytes(9_000)).decode()
    assert record(dsn, found(1, amount(long), amount("b"))).breaks_opened == 2
    assert record(dsn, found(2, amount(long), amount("b"))).breaks_seen == 2
    chosen = {str(one.key[0]): one.break_id for one in ledger.breaks(dsn)}
    assert ledger.accept(dsn, break_ids=[chosen[long]], reason="known", by="ann") == [chosen[long]]
    assert record(dsn, found(3)).breaks_vanished == 2


def test_a_repair_that_only_builds_any_more_keeps_nobody_from_repairing_its_pods(dsn: str) -> None:
    record(dsn, found(1, amount("a")))
    with holding.holding_pods(dsn, ["pod1"]) as held, holding.living("fix"):
        audit.begin_run(dsn, "fix", ["pod1"], at(1))
        ledger.claim(dsn, run="fix", limit=10, lease_seconds=900, clock=clock(1))
        record(dsn, found(2, amount("a"), amount("b")))
        (waiting,) = waiting_for_repair(dsn, at(3), holding.abandoned_runs(dsn), holding.runs_without_pods(dsn))
        assert waiting.is_claimed and waiting.breaks == 1
        with holding.holding_pods(dsn, ["pod1"]) as others:
            assert others.pods == ()
        held.give_back("fix")
        held.check()
        (waiting,) = waiting_for_repair(dsn, at(3), holding.abandoned_runs(dsn), holding.runs_without_pods(dsn))
        assert not waiting.is_claimed and waiting.breaks == 1
        with holding.holding_pods(dsn, ["pod1"]) as others, holding.living("next"):
            assert others.pods == ("pod1",) and holding.interrupted_runs(dsn, ["pod1"]) == []
            audit.begin_run(dsn, "next", ["pod1"], at(3))
            # What the other one holds is not claimed twice.
            (claimed,) = ledger.claim(dsn, run="next", limit=10, lease_seconds=900, clock=clock(3))
            assert claimed.key == ("b", None)
            audit.end_run(dsn, "next", "done", at(4))
        with psycopg.connect(dsn) as connection:  # as if it ran on another machine: only its lock tells that it lives
            connection.execute("update trust.repair_runs set host = 'elsewhere' where run = 'fix'")
        assert holding.interrupted_runs(dsn, ["pod1"]) == holding.abandoned_runs(dsn) == []
    assert holding.interrupted_runs(dsn, ["pod1"]) == holding.abandoned_runs(dsn) == ["fix"]
    audit.end_run(dsn, "fix", "interrupted", at(5))
    assert holding.runs_without_pods(dsn) == []


def test_some_of_a_repairs_breaks_are_settled_before_the_others(dsn: str) -> None:
    record(dsn, found(1, amount("a"), amount("b"), amount("c")))
    taken = ledger.claim(dsn, run="fix", limit=10, lease_seconds=60, clock=clock(1.5))
    claimed = {str(one.key[0]): one.break_id for one in taken}
    record(dsn, found(2, amount("a"), amount("b")), run="fix")
    first = ledger.settle(dsn, "fix", attempts_max=3, break_ids=[claimed["a"]], clock=clock(3))
    assert (first.reopened, states(dsn)) == (
        (claimed["a"],),
        {"a": BreakState.OPEN, "b": BreakState.REPAIRING, "c": BreakState.VANISHED},
    )
    both = ledger.settle(dsn, "fix", attempts_max=3, clock=clock(4)).after(first)
    assert (both.vanished, both.reopened) == (1, (claimed["a"], claimed["b"]))


def test_a_key_in_order_whose_break_another_comparison_has_seen_meanwhile_is_not_proven_yet(dsn: str) -> None:
    record(dsn, replace(found(1, amount("a"), amount("b")), moment=ledger.next_moment(dsn)))
    ids = [one.break_id for one in ledger.claim(dsn, run="fix", limit=10, lease_seconds=60, clock=clock(1.5))]
    before, mine = ledger.next_moment(dsn), ledger.next_moment(dsn)
    # It began before the repair, and its result comes while the comparison after the repair reads.
    record(dsn, replace(found(2, amount("a"), amount("b")), moment=before))
    after = replace(found(3, amount("b")), moment=mine)
    record(dsn, after, run="fix")
    assert states(dsn) == {"a": BreakState.REPAIRING, "b": BreakState.REPAIRING}
    assert ledger.unproven(dsn, "fix", [after]) == ids[:1]
    again = replace(found(4, amount("b")), moment=ledger.next_moment(dsn))
    record(dsn, again, run="fix")
    assert states(dsn)["a"] is BreakState.VANISHED and ledger.unproven(dsn, "fix", [again]) == []
    # A result that says nothing of the key asks for no other.
    unknown = result_of(PAIR, Verdict.UNKNOWN, pod="pod1", cut=5, checked_at=at(5))
    assert ledger.unproven(dsn, "fix", [unknown, found(5, pod="pod2")]) == []
