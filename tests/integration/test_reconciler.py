"""The reconciler on real servers: what a witness saw is compared at once, the rest round by round within the share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from contracts.breaks import BreakState
from contracts.clock import utc_now
from contracts.events import STATE_TYPES
from contracts.ownership import PROJECTED
from contracts.settings import Settings
from contracts.sightings import KeptSighting, Sighting, SightingKind
from contracts.verdicts import Verdict
from derived.lake import connect_lake
from reconcile import results, sightings
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from reconcile.coverage import read_coverage
from reconcile.pairs import pairs_of
from reconcile.rounds import RESTING, is_reconciling, newest_rounds
from reconcile.sweep import SeenKeys
from repair import ledger
from repair.ledger.awaiting import OPEN_SECONDS
from repair.sweeping import plans_for
from stack.composition.comparison import build_reconcile_context
from stack.composition.kept_builder import KeptBuilder
from stack.composition.migrations import migrate_everything
from stack.looking.witnesses import read_uncompared
from stack.upkeep.again import LOOK_SECONDS, OF_WAREHOUSE
from stack.upkeep.asked import EVERY_CUT, pairs_for, targets
from stack.upkeep.cpu_share import BORROWED_SECONDS_MAX, CpuShare
from stack.upkeep.reconciler import CHANGES_SECONDS_MAX, FINANCE_SECONDS, Reconciler, RoundKind
from stack.upkeep.witness_watch import WitnessWatch
from tests.conftest import Cluster
from tests.integration.reconcile_world import Shop, behind_the_outbox, carrying, open_shops, propagate
from witness.lake import LakeWitness

VIEW = "lake_account_view"
DECLARED = """
    select aggregate_type, table_name, id_column from oltp.aggregate_roots
    union all select aggregate_type, table_name, id_column from oltp.aggregate_children
"""
PROJECTIONS = tuple(copy.name for copy in PROJECTED)


class Clock:
    """A monotonic clock and a meter of processor time that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.used = 0.0

    def monotonic(self) -> float:
        return self.now

    def cpu(self) -> float:
        self.used += 1.0  # each round asks twice, so it has taken one second
        return self.used


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    migrate_everything(settings)
    with open_shops(settings) as (shop, _):
        shop.everything()
        for pod in settings.pods:
            propagate(settings, pod, PROJECTIONS)
        yield shop


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reconciler(settings: Settings, shop: Shop, clock: Clock) -> Iterator[Reconciler]:
    share = CpuShare(share=0.5, at=0.0)

    def context(settings: Settings, **given: Any) -> ReconcileContext:
        # No workers run here: who waits for a copy brings it there.
        return carrying(build_reconcile_context(settings, lag_seconds_max=10, **given), settings, PROJECTIONS)

    made = Reconciler(
        settings=settings, share=share, monotonic=clock.monotonic, cpu_seconds=clock.cpu, build_context=context
    )
    yield made
    made.connections.close()


def seen(settings: Settings, *given: Sighting) -> None:
    with psycopg.connect(settings.control_dsn) as connection:
        sightings.keep_sightings(connection, given)


def of_view(aggregate_id: str | None, transaction: str = "7") -> Sighting:
    return Sighting(
        witness="read_models",
        kind=SightingKind.UNANNOUNCED,
        pod="pod1",
        copy="account_view",
        place="read_models.account_orders",
        aggregate_id=aggregate_id,
        what="A row was changed without a moved position.",
        transaction=transaction,
    )


def of_oltp(place: str, aggregate_id: str | None = None) -> Sighting:
    return Sighting(
        witness="oltp",
        kind=SightingKind.UNANNOUNCED,
        pod="pod1",
        copy=None,
        place=place,
        aggregate_id=aggregate_id,
        what="A row was changed without an event of this transaction.",
    )


def answer_all(settings: Settings, *, but: KeptSighting | None = None) -> None:
    rest = [one.sighting_id for one in sightings.waiting_sightings(settings.control_dsn) if one != but]
    sightings.mark_compared(settings.control_dsn, rest, utc_now())


def asked_for(sighting: Sighting) -> set[str]:
    return set(pairs_for(KeptSighting(**vars(sighting), sighting_id=1, seen_at=utc_now())))


def test_what_a_witness_saw_is_compared_at_once_and_the_rest_within_the_share(
    postgres: Cluster, settings: Settings, reconciler: Reconciler, clock: Clock
) -> None:
    """One story, for the first round compares everything: each part goes on where the one before has ended."""
    assert reconciler.step() is RoundKind.CHANGES  # the first round compares everything, as there is no coverage
    verdicts = {one.verdict for one in results.latest_results(settings.control_dsn) if one.pod == "pod1"}
    assert verdicts == {Verdict.CONSISTENT}
    rounds_follow_the_share_and_say_what_they_took(settings, reconciler, clock)
    a_sighting_of_what_agrees_ends_without_a_break(settings, reconciler)
    a_sighting_that_could_not_be_compared_waits_and_is_tried_again(settings, reconciler, clock)
    a_row_that_was_seen_in_a_copy_is_a_break(settings, reconciler)
    an_aggregate_that_was_seen_in_oltp_is_compared_by_the_pairs_that_read_its_tables(postgres, settings, reconciler)


def rounds_follow_the_share_and_say_what_they_took(settings: Settings, reconciler: Reconciler, clock: Clock) -> None:
    assert reconciler.step() is None
    clock.now += 1.9
    assert reconciler.step() is None  # a second was used, and half a second is earned per second
    clock.now += 0.2
    assert reconciler.step() is RoundKind.CHANGES
    kept = newest_rounds(settings.control_dsn)[RoundKind.CHANGES]
    compared = len(results.latest_results(settings.control_dsn))
    assert (kept.cpu_seconds, kept.comparisons, kept.trouble) == (1.0, compared, "") and compared > 0
    assert 0 < kept.swept_share < 1
    assert is_reconciling(settings.control_dsn, utc_now())
    assert not is_reconciling(settings.control_dsn, utc_now() + RESTING + timedelta(seconds=1))


def a_sighting_of_what_agrees_ends_without_a_break(settings: Settings, reconciler: Reconciler) -> None:
    seen(settings, of_view(None))
    assert reconciler.step() is RoundKind.SEEN  # although the share is used up
    assert ledger.breaks(settings.control_dsn) == []
    (kept,) = sightings.newest_sightings(settings.control_dsn)
    assert kept.compared_at is not None
    assert kept.group_ids == ()


def a_sighting_that_could_not_be_compared_waits_and_is_tried_again(
    settings: Settings, reconciler: Reconciler, clock: Clock
) -> None:
    seen(settings, of_view(None, transaction="8"))
    with psycopg.connect(settings.read_models_dsn, autocommit=True) as connection:
        connection.execute("alter table read_models.account_orders rename to hidden")
        assert reconciler.step() is RoundKind.SEEN
        (waiting,) = sightings.waiting_sightings(settings.control_dsn)
        assert reconciler.step() is None  # not at once, and the share is used up
        connection.execute("alter table read_models.hidden rename to account_orders")
    clock.now += 10.0
    assert reconciler.step() is RoundKind.SEEN
    assert sightings.waiting_sightings(settings.control_dsn) == []
    assert reconciler.tried[waiting.sighting_id].times == 1


def a_row_that_was_seen_in_a_copy_is_a_break(settings: Settings, reconciler: Reconciler) -> None:
    with psycopg.connect(settings.read_models_dsn) as connection:
        (order_id,) = connection.execute(
            """update read_models.account_orders set total_minor = total_minor + 1
               where order_id = (select min(order_id) from read_models.account_orders where pod = 'pod1')
               returning order_id::text"""
        ).fetchone() or ("",)
    seen(settings, of_view(order_id, transaction="9"))
    assert reconciler.step() is RoundKind.SEEN
    (found,) = ledger.breaks(settings.control_dsn)
    assert (found.pair, found.key, found.state) == (VIEW, (order_id,), BreakState.OPEN)
    assert sightings.waiting_sightings(settings.control_dsn) == []
    (kept,) = sightings.sightings_of(settings.control_dsn, [order_id])
    assert kept.group_ids == (found.group_id,)
    newest = [one for one in results.latest_results(settings.control_dsn) if one.pair == VIEW and one.pod == "pod1"]
    assert newest[0].scope is not None
    assert order_id in newest[0].scope.ids or newest[0].scope.id_count == 1
    assert not newest[0].scope.ranges  # what a witness saw is looked at alone; nothing is swept


def an_aggregate_that_was_seen_in_oltp_is_compared_by_the_pairs_that_read_its_tables(
    postgres: Cluster, settings: Settings, reconciler: Reconciler
) -> None:
    with behind_the_outbox(postgres, settings.pods[0]) as connection:
        (order_id,) = connection.execute(
            """update oltp.orders set customer_id = 'eve'
               where order_id = (select min(order_id::text)::uuid from oltp.orders) returning order_id::text"""
        ).fetchone() or ("",)
    seen(settings, of_oltp("oltp.orders", order_id))
    assert reconciler.step() is RoundKind.SEEN
    assert newest_rounds(settings.control_dsn)[RoundKind.SEEN].comparisons == 2
    (found,) = ledger.breaks(settings.control_dsn, pair="oltp_lake.order")
    assert (found.key, found.state) == ((order_id,), BreakState.OPEN)
    assert sightings.waiting_sightings(settings.control_dsn) == []


def test_what_has_no_event_that_the_lake_lacks_is_compared_without_waiting_for_it(
    postgres: Cluster, settings: Settings, shop: Shop, reconciler: Reconciler
) -> None:
    reconciler.step()
    followed = {key: one.cut for key, one in read_coverage(settings.control_dsn).items()}
    # From here on nothing brings the lake to a new cut.
    reconciler.build_context = partial(build_reconcile_context, lag_seconds_max=0.2)
    with behind_the_outbox(postgres, settings.pods[0]) as connection:
        ids = connection.execute("select order_id::text from oltp.orders order by 1 limit 2").fetchall()
        connection.execute("update oltp.orders set customer_id = 'eve' where order_id = %s", ids[0])
    seen(settings, of_oltp("oltp.orders", ids[0][0]))
    assert reconciler.step() is RoundKind.SEEN
    (found,) = ledger.breaks(settings.control_dsn)
    assert (found.pair, found.key) == ("oltp_lake.order", ids[0])
    assert sightings.waiting_sightings(settings.control_dsn) == []
    # It says nothing of what changed meanwhile, so that neither coverage nor a certificate counts it.
    assert {key: one.cut for key, one in read_coverage(settings.control_dsn).items()} == followed
    (kept,) = results.answered_since(settings.control_dsn, "pod1", ["oltp_lake.order"], since_cut=0)
    assert kept.scope is None and kept.cut != found.last_seen_cut

    order_id = shop.order().order_id
    seen(settings, of_oltp("oltp.orders", order_id))
    assert reconciler.step() is RoundKind.SEEN
    newest = {(one.pair, one.pod): one for one in results.latest_results(settings.control_dsn)}
    assert newest["oltp_lake.order", "pod1"].verdict is Verdict.LATE
    assert len(sightings.waiting_sightings(settings.control_dsn)) == 1


@pytest.mark.long
def test_finance_has_its_turn(settings: Settings, reconciler: Reconciler, clock: Clock) -> None:
    reconciler.step()
    clock.now += FINANCE_SECONDS
    assert reconciler.step() is RoundKind.FINANCE
    found = results.latest_results(settings.control_dsn)
    assert {one.verdict for one in found} == {Verdict.CONSISTENT}
    assert len(found) == 2 * len(pairs_of(settings))
    clock.now += FINANCE_SECONDS / 2
    assert reconciler.step() is RoundKind.CHANGES


def test_what_witnesses_see_puts_off_the_round_of_changes_for_a_stated_time_only(
    reconciler: Reconciler, clock: Clock
) -> None:
    assert reconciler.step() is RoundKind.CHANGES
    reconciler.share.spend(30)  # as urgent rounds do, on credit
    clock.now += CHANGES_SECONDS_MAX / 2
    assert reconciler.step() is None
    clock.now += CHANGES_SECONDS_MAX / 2
    reconciler.share.spend(CHANGES_SECONDS_MAX * reconciler.share.share)
    assert reconciler.step() is RoundKind.CHANGES
    assert reconciler.step() is None
    # Credit has a bound: beyond it even this round waits, so that no more than the share is used over time.
    reconciler.share.spend((BORROWED_SECONDS_MAX + 2 * CHANGES_SECONDS_MAX) * reconciler.share.share)
    clock.now += CHANGES_SECONDS_MAX
    assert reconciler.step() is None


@pytest.mark.in_turn("comparisons", seconds=45)
def test_a_break_of_a_mart_is_compared_again_soon_after_a_person_has_mended_oltp(
    postgres: Cluster, settings: Settings, reconciler: Reconciler, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One story, with one builder: nothing in it is due by finance's schedule after its first round."""
    monkeypatch.setattr("stack.upkeep.again.CLOCKS_APART", timedelta(0))  # here all ask one clock
    with closing(KeptBuilder(settings=settings)) as builder:
        reconciler.builder = builder
        reconciler.step()
        clock.now += FINANCE_SECONDS
        order_id = change_the_total_past_the_rules(postgres, settings, by=1)
        assert reconciler.step() is RoundKind.FINANCE
        found = ledger.breaks(settings.control_dsn)
        marts = {item.break_id for item in found if item.pair in OF_WAREHOUSE}
        assert marts and {"oltp_identities", "oltp_lake.order"} <= {item.pair for item in found}
        before_people = [item.break_id for item in found]
        ledger.escalate(settings.control_dsn, before_people, reason="OLTP itself is at fault", by="repair")

        # While nothing happens, nothing is compared for them.
        assert [reconciler.step() for _ in steps(reconciler, clock, 2)] == [RoundKind.CHANGES, RoundKind.CHANGES]
        assert [item.state for item in ledger.breaks(settings.control_dsn)] == [BreakState.ESCALATED] * len(found)

        assert change_the_total_past_the_rules(postgres, settings, by=-1) == order_id
        kinds = [reconciler.step() for _ in steps(reconciler, clock, 3)]
        assert kinds == [RoundKind.CHANGES, RoundKind.AGAIN, RoundKind.CHANGES]
        ended = ledger.breaks(settings.control_dsn)
        assert {item.state for item in ended} == {BreakState.VANISHED} and len(ended) == len(found)
        kept = newest_rounds(settings.control_dsn)[RoundKind.AGAIN]
        assert 0 < kept.comparisons <= len(OF_WAREHOUSE) and kept.trouble == "" and kept.swept_share == 0.0

        a_write_that_a_witness_saw_makes_a_break_of_a_mart_due(postgres, settings, reconciler, clock)


def a_write_that_a_witness_saw_makes_a_break_of_a_mart_due(
    postgres: Cluster, settings: Settings, reconciler: Reconciler, clock: Clock
) -> None:
    """Also where no other break ends, and however much of the share is used up; then they rest."""
    clock.now += FINANCE_SECONDS
    order_id = change_the_total_past_the_rules(postgres, settings, by=1)
    reconciler.share.credit, reconciler.share.loan = 1.0, 0.0
    assert reconciler.step() is RoundKind.FINANCE
    reconciler.again.clock = lambda: utc_now() + timedelta(seconds=OPEN_SECONDS)
    standing = of_warehouse(settings)
    assert standing  # the sums; of the order itself nobody has told the reconciler yet
    reconciler.share.credit = -10.0
    clock.now += LOOK_SECONDS
    assert reconciler.go_round() is None
    seen(settings, of_oltp("oltp.orders", order_id))
    clock.now += LOOK_SECONDS
    assert reconciler.step() is RoundKind.SEEN
    assert reconciler.step() is RoundKind.AGAIN
    assert of_warehouse(settings) == standing
    seen(settings, replace(of_oltp("oltp.orders", order_id), what="Again."))
    clock.now += LOOK_SECONDS
    assert reconciler.look() is RoundKind.SEEN
    assert reconciler.go_round() is None
    assert reconciler.again.may_at > clock.now


def of_warehouse(settings: Settings) -> set[int]:
    """Return the breaks of finance's side that stand."""
    standing = ledger.breaks(settings.control_dsn, states=[BreakState.OPEN])
    return {item.break_id for item in standing if item.pair in OF_WAREHOUSE}


def change_the_total_past_the_rules(postgres: Cluster, settings: Settings, *, by: int) -> str:
    """Change the first order's total by so many minor units; return its id."""
    with behind_the_outbox(postgres, settings.pods[0]) as connection:
        (order_id,) = connection.execute(
            """update oltp.orders set lines_minor = lines_minor + %(by)s, total_minor = total_minor + %(by)s
               where order_id = (select min(order_id::text)::uuid from oltp.orders) returning order_id::text""",
            {"by": by},
        ).fetchone() or ("",)
    return str(order_id)


def steps(reconciler: Reconciler, clock: Clock, number: int) -> Iterator[None]:
    """Let two seconds pass before each of so many steps, whatever the builds have taken."""
    for _ in range(number):
        clock.now += LOOK_SECONDS
        reconciler.share.credit, reconciler.share.loan = 1.0, 0.0
        yield


def test_sightings_that_nothing_compares_are_an_alarm_and_people_are_told(
    settings: Settings, reconciler: Reconciler
) -> None:
    def told() -> list[str]:
        watch = WitnessWatch(read=list, read_uncompared=partial(read_uncompared, settings))
        watch.look_once()
        return [one.sentence for one in watch.troubles]

    seen(settings, of_view("a"), of_view("b"))
    assert told() == []
    with psycopg.connect(settings.control_dsn) as connection:
        connection.execute("update reconcile.sightings set seen_at = seen_at - interval '11 minutes'")
    (sentence,) = told()
    assert sentence.startswith("2 sightings wait for a comparison, the oldest for 11 min")
    # Without a reconciler nobody is promised that a sighting is compared at once.
    assert read_uncompared(replace(settings, reconciler_cpu_percent=0)) == ""
    assert reconciler.step() is RoundKind.SEEN
    assert told() == []


def test_what_is_seen_during_a_longer_round_is_compared_before_it_ends(
    settings: Settings, reconciler: Reconciler, clock: Clock
) -> None:
    reconciler.step()
    clock.now += 2.0
    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute("update read_models.account_orders set status = 'lost' where pod = 'pod1'")
    build_context = reconciler.build_context

    def context(settings: Settings, **given: Any) -> ReconcileContext:
        reconciler.build_context = build_context
        seen(settings, of_view(None))
        return build_context(settings, **given)

    reconciler.build_context = context
    assert reconciler.step() is RoundKind.CHANGES
    (kept,) = sightings.newest_sightings(settings.control_dsn)
    assert kept.compared_at is not None
    rounds = newest_rounds(settings.control_dsn)
    assert rounds[RoundKind.SEEN].ended_at < rounds[RoundKind.CHANGES].ended_at
    assert {item.pair for item in ledger.breaks(settings.control_dsn)} == {VIEW}
    assert reconciler.share.spent == 1.0 + 3.0  # what the one in between used is in the second round's three, once


def test_what_a_round_finds_is_a_break_before_the_round_ends(
    postgres: Cluster, settings: Settings, reconciler: Reconciler, clock: Clock
) -> None:
    reconciler.step()
    with psycopg.connect(settings.control_dsn) as connection:
        (before,) = connection.execute("select count(*) from reconcile.results").fetchone() or (0,)
    clock.now += 2.0
    with behind_the_outbox(postgres, settings.pods[0]) as connection:
        connection.execute(
            """update oltp.orders set customer_id = 'eve'
               where order_id = (select min(order_id::text)::uuid from oltp.orders)"""
        )
    known: list[int] = []
    reconciler.give_way = lambda: known.append(len(ledger.breaks(settings.control_dsn)))
    assert reconciler.go_round() is RoundKind.CHANGES
    assert known[0] == 0 and known[-1] == len(ledger.breaks(settings.control_dsn)) == 1
    with psycopg.connect(settings.control_dsn) as connection:
        (after,) = connection.execute("select count(*) from reconcile.results").fetchone() or (0,)
    # Each result is stored once, whenever that was.
    assert after - before == newest_rounds(settings.control_dsn)[RoundKind.CHANGES].comparisons


def test_what_is_seen_during_a_complete_comparison_does_not_wait_for_it(
    settings: Settings, reconciler: Reconciler
) -> None:
    reconciler.step()
    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute("update read_models.account_orders set status = 'lost' where pod = 'pod1'")
    build_context = reconciler.build_context

    def context(settings: Settings, **given: Any) -> ReconcileContext:
        reconciler.build_context = build_context
        seen(settings, replace(of_view(None), transaction="8"))
        return build_context(settings, **given)

    reconciler.build_context = context
    seen(settings, replace(of_oltp("write-ahead log"), kind=SightingKind.BLIND))
    assert reconciler.step() is RoundKind.SEEN
    newer, older = (one.compared_at for one in sightings.newest_sightings(settings.control_dsn))
    assert newer is not None and older is not None and newer < older
    assert {item.pair for item in ledger.breaks(settings.control_dsn)} == {VIEW}
    assert (reconciler.depth, reconciler.at_work) == (0, frozenset())


def test_an_event_that_was_changed_in_the_lake_is_looked_for_in_the_cuts_of_its_file(
    settings: Settings, reconciler: Reconciler
) -> None:
    reconciler.step()
    catalog, folder = settings.catalog_dsn, settings.lake_data_path
    witness = LakeWitness(catalog_dsn=catalog, control_dsn=settings.control_dsn, data_path=folder)
    witness.look_once()
    answer_all(settings)  # that it begins late
    with connect_lake(catalog, folder) as lake:
        event_id, aggregate_id, cut = lake.execute(
            """select event_id, aggregate_id, cut from lake.raw.events
               where pod = 'pod1' and aggregate_type = 'order' and aggregate_version = 1 order by cut limit 1"""
        ).fetchone() or ("", "", 0)
        lake.execute("update lake.raw.events set traceparent = 'x' where event_id = ?", [event_id])
    assert witness.look_once().sightings > 0
    witness.close()
    kept = sightings.waiting_sightings(settings.control_dsn)
    (of_row,) = [one for one in kept if one.aggregate_id == aggregate_id]
    assert (of_row.aggregate_type, of_row.cuts) == ("order", (cut - 1, cut))
    assert set(pairs_for(of_row)) == {"oltp_lake.order", "log_manifests"}
    answer_all(settings, but=of_row)  # the file where the row was tells of many aggregates
    assert reconciler.step() is RoundKind.SEEN
    found = {(item.pair, item.key) for item in ledger.breaks(settings.control_dsn)}
    assert found == {("log_manifests", (event_id,))}


def test_an_outbox_row_of_an_old_cut_is_compared_with_the_log_and_the_lake(
    postgres: Cluster, settings: Settings, reconciler: Reconciler
) -> None:
    reconciler.step()
    with behind_the_outbox(postgres, settings.pods[0]) as connection:
        event_id, order_id = connection.execute(
            """update oltp.outbox set traceparent = 'x' where event_id = (
                   select event_id from oltp.outbox where aggregate_type = 'order' order by position limit 1
               ) returning event_id::text, aggregate_id"""
        ).fetchone() or ("", "")
    seen(settings, of_oltp("oltp.outbox", order_id))
    assert reconciler.step() is RoundKind.SEEN
    (found,) = ledger.breaks(settings.control_dsn)
    assert (found.pair, found.key, found.state) == ("log_manifests", (event_id,), BreakState.OPEN)
    newest = {(one.pair, one.pod): one for one in results.latest_results(settings.control_dsn)}
    assert newest["log_manifests", "pod1"].scope is not None  # only the order's cuts, and what is new


def test_an_outbox_row_that_nobody_can_place_asks_for_every_cut() -> None:
    row = KeptSighting(**vars(of_oltp("oltp.outbox", "o1")), sighting_id=1, seen_at=utc_now())
    placed = replace(row, cuts=(6, 7), sighting_id=2)
    (target,) = targets([row, placed], ["pod1"])
    assert target.cuts == (EVERY_CUT, (6, 7)) and target.ids == frozenset({"o1"})
    (target,) = targets([placed, replace(row, place="oltp.orders")], ["pod1"])
    assert target.cuts == ((6, 7),)


def test_a_copy_that_is_compared_where_it_stands_does_not_wait_for_a_cut() -> None:
    view, owner = (KeptSighting(**vars(one), sighting_id=1, seen_at=utc_now()) for one in (of_view("a"), of_oltp("x")))
    row = replace(owner, place="oltp.orders", aggregate_id="b", sighting_id=2)
    first, second = targets([row, view], ["pod1"])
    assert (first.ids, first.pairs) == (frozenset({"a"}), (VIEW,))
    assert second.ids == frozenset({"b"}) and VIEW not in second.pairs
    # Of one aggregate the lake is compared first, because a view is mended from it.
    (both,) = targets([row, replace(view, aggregate_id="b")], ["pod1"])
    assert both.ids == frozenset({"b"}) and {VIEW, "oltp_lake.order"} <= set(both.pairs)


def test_what_is_compared_for_a_sighting_follows_from_its_copy(settings: Settings, shop: Shop) -> None:
    owner = Sighting(
        witness="oltp",
        kind=SightingKind.BLIND,
        pod="",
        copy=None,
        place="slot",
        what="Nothing was seen.",
        transaction="",
    )
    seen(settings, owner, of_view("a"), of_view("b"))
    kept = sightings.waiting_sightings(settings.control_dsn)
    assert pairs_for(kept[1]) == (VIEW,)
    assert {"oltp_identities", "outbox_log", "oltp_lake.order"} <= set(pairs_for(kept[0]))
    found = targets(kept, ["pod1", "pod2"])
    assert [(one.pod, one.ids) for one in found] == [
        ("pod1", frozenset({"a", "b"})),
        ("pod1", None),
        ("pod2", None),
    ]


@pytest.mark.in_turn("comparisons", seconds=58)
def test_the_pairs_that_are_compared_for_a_table_are_all_that_can_differ(
    postgres: Cluster, settings: Settings, shop: Shop, reconciler: Reconciler
) -> None:
    shop.paid_by_card()
    reconciler.step()
    with psycopg.connect(settings.pods[0].owner_dsn) as connection:
        declared = connection.execute(DECLARED).fetchall()
    tables = {kind: [(name, column) for other, name, column in declared if other == kind] for kind, *_ in declared}
    chosen = {
        kind: set().union(*(asked_for(of_oltp(f"oltp.{name}")) for name, _ in names)) for kind, names in tables.items()
    }
    assert set(tables) == set(STATE_TYPES)
    everything = asked_for(of_oltp("oltp.outbox"))
    assert everything > set().union(*chosen.values())
    assert everything == asked_for(of_oltp("write-ahead log"))
    context = replace(reconciler.build_context(settings), whole_orders_max=0)
    # What stock is made of comes last: this pair is always compared completely, so that it differs from then on.
    for kind in sorted(tables, key=lambda kind: "stock_identity" in chosen[kind]):
        with behind_the_outbox(postgres, settings.pods[0]) as connection:
            lost = lose_one(connection, tables[kind])
        keys = {"pod1": SeenKeys(ids=frozenset({lost}))}
        plans = plans_for(settings.control_dsn, ["pod1"], everything, utc_now(), seen=keys)
        found = run_pairs(context, everything, ["pod1"], plans=plans)
        differing = {one.pair for one in found if one.verdict is Verdict.INCONSISTENT}
        assert {one.verdict for one in found} == {Verdict.CONSISTENT, Verdict.INCONSISTENT}, kind
        assert f"oltp_lake.{kind}" in differing
        assert differing <= chosen[kind], kind
    assert "stock_identity" in differing


def lose_one(connection: psycopg.Connection[Any], tables: Sequence[tuple[str, str]]) -> str:
    """Delete an aggregate's rows from its tables, the root's being the first of them; return its id."""
    root, id_column = tables[0]
    oldest = f"select {id_column}::text from oltp.{root} order by 1 limit 1"
    (lost,) = connection.execute(oldest.encode()).fetchone() or ("",)
    for name, column in tables:
        connection.execute(f"delete from oltp.{name} where {column}::text = %s".encode(), (lost,))
    return str(lost)
