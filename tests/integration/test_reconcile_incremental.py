"""Incremental comparison on real servers: exact inside its scope, silent outside of it, through within a rotation."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from contracts.breaks import BreakState
from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.scope import KeyRange
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from derived.lake_connection import open_lake
from reconcile import coverage
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from reconcile.pairs import PAIRS
from reconcile.sweep import Coverage, SweepPlan, cut_text
from repair import audit, ledger
from repair.sweeping import plans_for, take_in
from stack.composition.comparison import build_reconcile_context
from streams.outbox_reading import prune
from tests.conftest import Cluster
from tests.integration.reconcile_world import Shop, carrying, migrate_lake_of, open_shops, propagate
from tests.values import Clock

ORDERS, REFUNDS, IDENTITIES, LOG, STOCK = (
    "oltp_lake.order",
    "oltp_lake.refund",
    "oltp_identities",
    "log_manifests",
    "stock_identity",
)
PAIRS_COMPARED = (ORDERS, "oltp_lake.payment", REFUNDS, "oltp_lake.merchant", IDENTITIES, LOG, STOCK)


class World:
    """One pod that is compared, with its ledger and coverage."""

    def __init__(self, settings: Settings, shop: Shop, postgres: Cluster) -> None:
        self.settings = settings
        self.shop = shop
        self.clock = Clock()
        self._postgres = postgres
        real = build_reconcile_context(settings, lag_seconds_max=10)

        self.context: ReconcileContext = replace(
            carrying(real, settings, ("lake",)), now=self.clock, whole_orders_max=0
        )

    def look(self, pairs: tuple[str, ...] = PAIRS_COMPARED, **plans: SweepPlan) -> dict[str, PairResult]:
        """Compare, without keeping anything."""
        return {result.pair: result for result in run_pairs(self.context, pairs, ["pod1"], plans=plans)}

    def compare(self, *, is_incremental: bool, pairs: tuple[str, ...] = PAIRS_COMPARED) -> dict[str, PairResult]:
        """Compare and take the results in, as `tieout reconcile` does."""
        dsn = self.settings.control_dsn
        plans = plans_for(dsn, ["pod1"], pairs, self.clock()) if is_incremental else {}
        results = run_pairs(self.context, pairs, ["pod1"], plans=plans)
        take_in(dsn, results, run="test", clock=self.clock)
        return {result.pair: result for result in results}

    def plan(self, pairs: tuple[str, ...] = PAIRS_COMPARED) -> SweepPlan:
        return plans_for(self.settings.control_dsn, ["pod1"], pairs, self.clock())["pod1"]

    def breaks(self) -> dict[str, BreakState]:
        return {str(one.key[0]): one.state for one in ledger.breaks(self.settings.control_dsn)}

    def coverage(self, pair: str) -> Coverage:
        return coverage.read_coverage(self.settings.control_dsn)[pair, "pod1"]

    @contextmanager
    def behind_the_outbox(self) -> Iterator[psycopg.Connection[Any]]:
        """A superuser's connection without triggers: writes that bypass every rule of the pod."""
        database = str(conninfo_to_dict(self.settings.pods[0].owner_dsn)["dbname"])
        with psycopg.connect(self._postgres.superuser_dsn(database)) as connection:
            connection.execute("set session_replication_role = replica")
            yield connection

    def edit_order(self, order_id: str, difference: int = 1) -> None:
        with self.behind_the_outbox() as connection:
            connection.execute(
                """update oltp.orders set lines_minor = lines_minor + %(by)s, total_minor = total_minor + %(by)s
                   where order_id = %(order)s""",
                {"by": difference, "order": order_id},
            )

    def damage_lake(self, statement: str, *values: object) -> None:
        with open_lake(self.settings) as lake:
            lake.execute(statement, list(values))


@pytest.fixture
def world(settings: Settings, postgres: Cluster) -> Iterator[World]:
    """A shop with orders of every kind, compared completely once."""
    migrate_lake_of(settings)
    ledger.migrate(settings.control_dsn)
    audit.migrate(settings.control_dsn)
    coverage.migrate(settings.control_dsn)
    coverage.migrate(settings.control_dsn)
    with open_shops(settings) as (shop, _):
        shop.everything()
        yield World(settings, shop, postgres)


def keys(results: dict[str, PairResult]) -> set[tuple[str, str, tuple[str | None, ...], str]]:
    return {
        (pair, item.entity, item.key, item.kind.value) for pair, result in results.items() for item in result.sample
    }


def wrong(results: dict[str, PairResult]) -> list[object]:
    return [
        (r.pair, r.verdict, r.reason, r.sample[:2]) for r in results.values() if r.verdict is not Verdict.CONSISTENT
    ]


@pytest.mark.long
def test_what_did_not_change_is_found_within_a_rotation_and_no_run_ends_what_it_did_not_look_at(world: World) -> None:
    orders = [world.shop.order() for _ in range(3)]
    untouched, other = orders[0].order_id, orders[1].order_id
    assert wrong(world.compare(is_incremental=True)) == [], "nothing was compared before: everything is"
    assert all(world.coverage(pair).oldest.keys == KeyRange() for pair in PAIRS_COMPARED)
    known = world.coverage(ORDERS)
    since = partial(coverage.compared_since, world.settings.control_dsn, "pod1")
    assert since(PAIRS_COMPARED, known.cut) == known.oldest.compared_at
    assert since(PAIRS_COMPARED, known.cut + 1) is None and since((ORDERS, "daily_sales"), known.cut) is None

    # A write that bypassed the outbox touches nothing: only the sweep finds it.
    world.edit_order(untouched)
    changed = world.shop.order()
    world.clock.advance(60)
    results = world.compare(is_incremental=True)
    scope = results[ORDERS].scope
    assert scope is not None and scope.covers(changed.order_id) and not scope.covers(untouched)
    assert wrong(results) == [] and results[ORDERS].levels[0].left_rows <= 2, "the new one, and the sweep's part"
    assert results[STOCK].is_whole and results[LOG].scope is not None
    assert world.coverage(ORDERS).cut > known.cut

    # Rounds of a tenth of a rotation each: found before the stated time is over.
    started = world.clock()
    while not world.breaks():
        world.clock.advance(SWEEP_SECONDS_MAX / 12)
        world.compare(is_incremental=True, pairs=(ORDERS, IDENTITIES))
        assert (world.clock() - started).total_seconds() < SWEEP_SECONDS_MAX
    assert set(world.breaks()) == {untouched}

    # A break is looked at by every run, wherever the sweep stands, and ended by one that finds the key in order.
    assert untouched in world.plan((ORDERS, IDENTITIES)).suspects
    world.edit_order(untouched, -1)
    world.edit_order(other)
    ledger.record(world.settings.control_dsn, list(world.look().values()), run="a person")
    world.edit_order(other, -1)
    opened = {item.key[0] for item in ledger.breaks(world.settings.control_dsn, states=[BreakState.OPEN])}
    assert other in opened and untouched not in opened

    # One that does not look at it ends nothing, though it finds nothing wrong.
    world.clock.advance(60)
    blind = SweepPlan(since_cut=world.coverage(ORDERS).cut, parts=(), cut_parts=(), share=0.1)
    world.shop.order()
    take_in(world.settings.control_dsn, list(world.look(pod1=blind).values()), run="blind", clock=world.clock)
    assert world.breaks()[other] is BreakState.OPEN
    world.clock.advance(60)
    world.compare(is_incremental=True)
    assert world.breaks()[other] is BreakState.VANISHED


def damaged_at_random(world: World, rng: random.Random, orders: list[str]) -> None:
    """Do something wrong to some orders, in OLTP or in the lake."""
    total = "update oltp.orders set total_minor = total_minor + 1, lines_minor = lines_minor + 1 where order_id = %s"
    events = "lake.raw.events"
    for order in orders:
        kind = rng.randrange(6)
        if kind == 0:
            with world.behind_the_outbox() as connection:
                connection.execute(total, (order,))
        elif kind == 1:
            with world.behind_the_outbox() as connection:
                connection.execute("update oltp.order_lines set sku = 'OTHER' where order_id = %s", (order,))
        elif kind == 2:
            world.damage_lake(f"delete from {events} where aggregate_id = ?", order)
        elif kind == 3:
            world.damage_lake(f"insert into {events} select * from {events} where aggregate_id = ?", order)
        elif kind == 4:
            edit = """update lake.raw.events set payload = replace(payload, '"GBP"', '"EUR"') where aggregate_id = ?"""
            world.damage_lake(edit, order)
        else:
            with world.behind_the_outbox() as connection:
                connection.execute("delete from oltp.order_lines where order_id = %s", (order,))


def test_inside_its_scope_an_incremental_run_finds_what_a_complete_one_does(world: World, rng: random.Random) -> None:
    orders = [world.shop.order().order_id for _ in range(10)]
    refunded, _, refund = world.shop.refunded()
    assert wrong(world.compare(is_incremental=False)) == []
    damaged_at_random(world, rng, rng.sample(orders, 6))
    with world.behind_the_outbox() as connection:
        connection.execute(
            "update oltp.refunds set amount_minor = amount_minor + 1 where refund_id = %s", (refund.refund_id,)
        )
    # Some of the damaged orders change afterwards.
    for order in rng.sample(orders, 2):
        try:
            world.shop.cancel(order)
        except Exception as error:  # the command may refuse what was damaged in OLTP
            assert "order" in str(error).lower() or "stock" in str(error).lower(), error
    full = world.look()
    everything = keys(full)
    assert everything and {(item[0]) for item in everything} >= {REFUNDS, IDENTITIES}
    aggregates = {item.key: item.aggregate_key for result in full.values() for item in result.sample}

    plan = replace(world.plan(), parts=(KeyRange(above=sorted(orders)[4]),), share=1.0)
    some = world.look(pod1=plan)
    scope = some[ORDERS].scope
    assert scope is not None and some[LOG].scope is not None
    by_pair = {pair: result for pair, result in some.items() if pair not in (LOG, STOCK)}
    expected = {
        item for item in everything if item[0] in by_pair and scope.covers(str(aggregates[item[2]]).split("/", 2)[2])
    }
    assert keys(by_pair) == expected

    # All parts together find all.
    rest = world.look(pod1=replace(plan, parts=(KeyRange(through=sorted(orders)[4]),)))
    parts = {item for item in keys(some) | keys(rest) if item[0] not in (LOG, STOCK)}
    assert parts == {item for item in everything if item[0] not in (LOG, STOCK)}
    by_cuts = replace(plan, cut_parts=(KeyRange(),), since_cut=plan.since_cut)
    assert keys({LOG: world.look((LOG,), pod1=by_cuts)[LOG]}) == {item for item in everything if item[0] == LOG}
    assert refunded.order_id


@pytest.mark.in_turn("comparisons", seconds=17)
def test_the_log_is_compared_in_ranges_of_cuts(world: World) -> None:
    orders = [world.shop.order().order_id]
    assert wrong(world.compare(is_incremental=False, pairs=(LOG,))) == []
    for _ in range(3):
        orders.append(world.shop.order().order_id)
        propagate(world.settings, world.settings.pods[0], ("lake",))
    assert wrong(world.compare(is_incremental=True, pairs=(LOG,))) == []
    with open_lake(world.settings) as lake:
        cuts = dict(
            lake.execute("select aggregate_id, cut from lake.raw.events where aggregate_type = 'order'").fetchall()
        )
    world.damage_lake("delete from lake.raw.events where aggregate_id = ?", orders[1])
    at, newest = int(cuts[orders[1]]), world.coverage(LOG).cut
    base = SweepPlan(since_cut=newest, parts=(KeyRange(),), cut_parts=(), share=1.0)
    assert wrong(world.look((LOG,), pod1=base)) == [], "that cut is not looked at"
    before = replace(base, cut_parts=(KeyRange(through=cut_text(at - 1)), KeyRange(above=cut_text(at))))
    assert wrong(world.look((LOG,), pod1=before)) == []
    there = world.look((LOG,), pod1=replace(base, cut_parts=(KeyRange(above=cut_text(at - 1), through=cut_text(at)),)))
    full = world.look((LOG,))
    assert keys(there) == keys(full) and there[LOG].differences == full[LOG].differences > 0

    # With a break the whole log is looked at, so that it can end.
    take_in(world.settings.control_dsn, [full[LOG]], run="found", clock=world.clock)
    world.clock.advance(60)
    assert world.plan((LOG,)).whole_pairs == {LOG}
    assert world.compare(is_incremental=True, pairs=(LOG,))[LOG].is_whole


@pytest.mark.in_turn("comparisons")
def test_a_pruned_outbox_and_a_lost_base_make_no_difference(world: World) -> None:
    assert wrong(world.compare(is_incremental=False)) == []
    world.shop.paid()
    cut = world.look((ORDERS,))[ORDERS].cut
    assert cut is not None
    propagate(world.settings, world.settings.pods[0], ("lake",))
    assert prune(world.settings.pods[0].owner_dsn, cut).events > 0
    after = world.shop.shipped()[0]
    results = world.compare(is_incremental=True)
    scope = results[ORDERS].scope
    assert wrong(results) == [] and scope is not None and scope.covers(after.order_id)
    # A pod with few orders is always looked at completely.
    world.context = replace(world.context, whole_orders_max=100)
    assert all(result.is_whole for result in world.look(pod1=world.plan()).values())
    world.context = replace(world.context, whole_orders_max=5)
    assert not world.look(pod1=world.plan())[ORDERS].is_whole
    world.context = replace(world.context, whole_orders_max=0)
    # A pod that was put back does not know the last comparison's cut: everything is looked at.
    ahead = SweepPlan(since_cut=10_000, parts=(KeyRange(),), cut_parts=(KeyRange(),), share=0.01)
    results = world.look(pod1=ahead)
    assert wrong(results) == [] and all(result.is_whole for result in results.values())


@pytest.mark.in_turn("comparisons", seconds=19)
def test_no_false_difference_while_writers_write(world: World) -> None:
    assert wrong(world.compare(is_incremental=False)) == []
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            while not stop.wait(0.01):
                world.shop.refunded()
                world.shop.cancelled_in_part()
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    seen = []
    try:
        for _ in range(3):
            world.clock.advance(600)
            results = world.compare(is_incremental=True)
            assert wrong(results) == []
            seen.append((results[ORDERS].cut, results[ORDERS].compared))
    finally:
        stop.set()
        thread.join()
    assert failures == [] and world.breaks() == {}
    assert len({cut for cut, _ in seen}) == 3 and all(compared > 0 for _, compared in seen)


def test_every_pair_says_what_an_incremental_run_looks_at() -> None:
    whole = {pair.name for pair in PAIRS if pair.sweep.name == "WHOLE"}
    sums = {"operational_finance.daily_sales", "operational_finance.gift_card_liability"}
    assert whole == {STOCK, "log_positions", "lake_floors"} | sums
    # What is always compared completely must not read the rows that an incremental run leaves out.
    assert all(not pair.aggregate_types for pair in PAIRS if pair.name in whole)
