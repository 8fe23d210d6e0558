"""Incremental comparison of a merchant that moves: before and after the last cut, with a late old pod, and damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from derived.lake_connection import open_lake
from reconcile import coverage
from reconcile.comparison_run import run_pairs
from repair import audit, ledger
from repair.sweeping import plans_for, take_in
from stack.composition.comparison import build_reconcile_context
from tests.conftest import Cluster
from tests.integration.moving import move
from tests.integration.reconcile_world import Shop, carrying, migrate_lake_of, open_shops
from tests.values import Clock

ORDERS = "oltp_lake.order"
PAIRS = (ORDERS, "oltp_lake.payment", "oltp_identities", "log_manifests")
PODS = ("pod1", "pod2")


class World:
    """Two pods that are compared, and a merchant that moves from the first to the second."""

    def __init__(self, settings: Settings, postgres: Cluster, shops: tuple[Shop, Shop]) -> None:
        self.settings = settings
        self.shop, self.other = shops
        self.clock = Clock()
        self._postgres = postgres
        real = build_reconcile_context(settings, lag_seconds_max=10)
        self._context = replace(carrying(real, settings, ("lake",)), now=self.clock, whole_orders_max=0)

    def compare(self, *, is_incremental: bool = True) -> dict[tuple[str, str], PairResult]:
        """Compare both pods and take the results in, as `tieout reconcile` does."""
        self.clock.advance(60)
        dsn = self.settings.control_dsn
        plans = plans_for(dsn, PODS, PAIRS, self.clock()) if is_incremental else {}
        results = run_pairs(self._context, PAIRS, PODS, plans=plans)
        take_in(dsn, results, run="test", clock=self.clock)
        return {(result.pair, result.pod): result for result in results}

    def move(self) -> None:
        move(self.settings, self._postgres, self.shop.merchant_id)
        self.shop.pod = self.other.pod

    def broken(self) -> set[tuple[str, str]]:
        """Return (pod, order) of the breaks that have not ended."""
        found = ledger.breaks(self.settings.control_dsn, pair=ORDERS)
        return {(one.pod, str(one.key[0])) for one in found if one.ended_at is None}

    def damage(self, order_id: str) -> None:
        """Change the amount of an order's events of the old pod in the lake."""
        with open_lake(self.settings) as lake:
            lake.execute(
                """update lake.raw.events set payload = replace(payload, '"total_minor":', '"total_minor":1')
                   where pod = 'pod1' and aggregate_id = ?""",
                [order_id],
            )

    def edit(self, pod: int, order_id: str) -> None:
        """Change an order's row past the commands, as the tables' owner."""
        with psycopg.connect(self.settings.pods[pod].owner_dsn) as connection:
            connection.execute("alter table oltp.orders disable trigger user")
            connection.execute("update oltp.orders set order_number = 'by hand' where order_id = %s", [order_id])
            connection.execute("alter table oltp.orders enable trigger user")


@pytest.fixture
def world(settings: Settings, postgres: Cluster) -> Iterator[World]:
    migrate_lake_of(settings)
    for module in (ledger, audit, coverage):
        module.migrate(settings.control_dsn)
    with open_shops(settings) as shops:
        shops[0].everything()
        yield World(settings, postgres, shops)


def wrong(results: dict[tuple[str, str], PairResult]) -> list[object]:
    return [
        (r.pair, r.pod, r.verdict, r.reason, r.sample[:2])
        for r in results.values()
        if r.verdict is not Verdict.CONSISTENT
    ]


def covers(results: dict[tuple[str, str], PairResult], pod: str, order_id: str) -> bool:
    scope = results[ORDERS, pod].scope
    assert scope is not None, "it was an incremental run"
    return scope.covers(order_id)


@pytest.mark.in_turn("moved", seconds=24)
@pytest.mark.timeout(600)
def test_who_moves_between_two_runs_is_compared_where_it_lives_with_what_is_new(world: World) -> None:
    changed, untouched = world.shop.order(), world.shop.order()
    assert wrong(world.compare(is_incremental=False)) == []
    # The old pod registers a last change, and nothing has read it when the merchant moves.
    late = world.shop.cancelled_in_part()
    world.move()
    world.shop.cancel(changed.order_id)
    new = world.shop.order()
    results = world.compare()
    assert wrong(results) == []
    assert all(covers(results, "pod2", one.order_id) for one in (changed, late, new))
    assert results[ORDERS, "pod1"].scope is not None

    # After the cut it moved before, changes are found in the new pod alone, and what the old pod holds is nobody's.
    world.shop.cancel(late.order_id)
    world.edit(0, untouched.order_id)
    results = world.compare()
    assert wrong(results) == [] and covers(results, "pod2", late.order_id)
    assert wrong(world.compare(is_incremental=False)) == []


@pytest.mark.in_turn("moved", seconds=20)
@pytest.mark.timeout(600)
def test_damage_to_what_has_moved_is_found_when_it_changes_or_its_turn_comes(world: World) -> None:
    changed, untouched = world.shop.order(), world.shop.order()
    world.move()
    assert wrong(world.compare(is_incremental=False)) == []
    world.damage(changed.order_id)
    world.edit(1, untouched.order_id)
    started = world.clock()
    while world.broken() != {("pod2", changed.order_id), ("pod2", untouched.order_id)}:
        world.clock.advance(SWEEP_SECONDS_MAX / 12)
        world.compare()
        assert (world.clock() - started).total_seconds() < SWEEP_SECONDS_MAX

    # Its break stays in every scope, and ends with the run that finds it right: it has a newer version now.
    world.shop.cancel(changed.order_id)
    results = world.compare()
    assert covers(results, "pod2", changed.order_id) and world.broken() == {("pod2", untouched.order_id)}


@pytest.mark.in_turn("moved", seconds=24)
@pytest.mark.timeout(600)
def test_breaks_that_the_old_pod_had_end_where_nothing_is_compared_any_more(world: World) -> None:
    order = world.shop.order()
    assert wrong(world.compare(is_incremental=False)) == []
    world.damage(order.order_id)
    world.edit(0, order.order_id)
    world.compare(is_incremental=False)
    assert world.broken() == {("pod1", order.order_id)}
    world.move()
    world.compare()
    assert ("pod1", order.order_id) not in world.broken()
    # The rows came along as they were: the difference is the new pod's now.
    world.compare(is_incremental=False)
    assert world.broken() == {("pod2", order.order_id)}
