"""Incremental comparison of a view's sums: exact in its scope, silent outside of it, all through all parts together."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import date, timedelta

import psycopg
import pytest

from contracts.scope import KeyRange
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from derived.read_models import migrate as migrate_read_models
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from reconcile.sweep import SweepPlan
from stack.composition.comparison import build_reconcile_context
from stack.composition.projections import PROJECTIONS
from tests.integration.reconcile_world import VIEW_PAIRS, Shop, carrying, migrate_lake_of, open_shops, propagate

PAIR, SUMS = "lake_merchant_sales", "merchant_sales_days"
HALF = "80000000-0000-0000-0000-000000000000"

ROWS_READ = """
    select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables
    where schemaname = 'read_models' and relname ~ '^(account|fulfillment|sales|merchant_sales)_'
"""
CROWD = """
    insert into read_models.sales_orders
        (merchant_id, order_id, pod, epoch, version, day, currency, ordered_minor, cancelled_minor)
    select 'crowd', gen_random_uuid()::text, 'pod1', 'e', 1, (date '1990-01-01' + mod(number, 3000))::text, 'GBP', 5, 0
    from generate_series(1, 20000) as number;
    insert into read_models.sales_payments (merchant_id, payment_id, pod, epoch, version, currency)
    select 'crowd', order_id, 'pod1', 'e', 1, 'GBP' from read_models.sales_orders where merchant_id = 'crowd'
    on conflict do nothing;
    insert into read_models.sales_captures
        (merchant_id, payment_id, payment_capture_id, day, currency, captured_minor)
    select 'crowd', order_id, '1', day, 'GBP', 5 from read_models.sales_orders where merchant_id = 'crowd'
    on conflict do nothing;
    insert into read_models.sales_refunds
        (merchant_id, refund_id, pod, epoch, version, day, currency, refunded_minor)
    select 'crowd', order_id, 'pod1', 'e', 1, day, 'GBP', 5 from read_models.sales_orders where merchant_id = 'crowd'
    on conflict do nothing;
    insert into read_models.account_orders
        (merchant_id, order_id, pod, epoch, version, customer_id, order_number, status, currency, item_quantity,
         lines_minor, discount_minor, shipping_minor, tax_minor, total_minor, cancelled_minor, cancelled_tax_minor,
         placed_at)
    select 'crowd', order_id, 'pod1', 'e', 1, 'ada', order_id, 'placed', 'GBP', 1, 5, 0, 0, 0, 5, 0, 0, now()
    from read_models.sales_orders where merchant_id = 'crowd'
    on conflict do nothing;
    insert into read_models.fulfillment_orders
        (merchant_id, order_id, pod, epoch, version, order_number, status, open_quantity, ordered_at)
    select 'crowd', order_id, 'pod1', 'e', 1, order_id, 'placed', 1, now()
    from read_models.sales_orders where merchant_id = 'crowd'
    on conflict do nothing;
    insert into read_models.fulfillment_lines
        (merchant_id, order_id, order_line_id, line_number, sku, title, quantity, fulfilled_quantity,
         cancelled_quantity, open_quantity)
    select 'crowd', order_id, '1', 1, 'TEACUP', 'Teacup', 1, 0, 0, 1
    from read_models.sales_orders where merchant_id = 'crowd'
    on conflict do nothing;
    analyze
"""
"""Twenty thousand orders more that no event explains: a comparison that looked at them would find them."""


class World:
    """One shop whose sales stand on several days, and the comparison of the view that adds them up."""

    def __init__(self, settings: Settings, shop: Shop) -> None:
        self.settings = settings
        self.shop = shop
        real = build_reconcile_context(settings, lag_seconds_max=10)
        self.context: ReconcileContext = replace(carrying(real, settings, PROJECTIONS), whole_orders_max=0)

    def carry(self) -> None:
        propagate(self.settings, self.settings.pods[0], PROJECTIONS)

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.settings.read_models_dsn) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def look(self, plan: SweepPlan | None = None) -> PairResult:
        (result,) = self.look_at((PAIR,), plan)
        return result

    def look_at(self, pairs: Collection[str], plan: SweepPlan | None = None) -> list[PairResult]:
        return run_pairs(self.context, pairs, ["pod1"], plans={} if plan is None else {"pod1": plan})

    def rows_read(self, pairs: Collection[str], plan: SweepPlan) -> dict[str, int]:
        """Compare, and return how many rows of each of the read models' tables the server has read for it."""
        ((now,),) = self.execute("select clock_timestamp()")
        before = self.rows_read_so_far()
        assert {result.verdict for result in self.look_at(pairs, plan)} == {Verdict.CONSISTENT}
        # A session tells what it has read at its end.
        while self.execute("select from pg_stat_activity where backend_start > %s and pid <> pg_backend_pid()", now):
            time.sleep(0.02)
        return {name: rows - before[name] for name, rows in self.rows_read_so_far().items()}

    def rows_read_so_far(self) -> dict[str, int]:
        return {str(name): int(str(rows)) for name, rows in self.execute(ROWS_READ)}


def part_of(whole: PairResult, *parts: KeyRange, ids: frozenset[str] = frozenset()) -> SweepPlan:
    """Return what looks at all of these ranges, and at nothing that changed before the complete comparison."""
    assert whole.cut is not None
    return SweepPlan(since_cut=whole.cut, parts=parts, cut_parts=(), share=2.0, suspects=ids)


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    migrate_lake_of(settings)
    migrate_read_models(settings.read_models_dsn)
    with open_shops(settings) as (shop, _):
        shop.refunded()
        shop.cancelled_in_part()
        yield World(settings, shop)


def sums_in(result: PairResult) -> dict[str, str]:
    return {str(item.key[0]): item.kind.value for item in result.sample if item.entity == SUMS}


@pytest.mark.in_turn("comparisons")
def test_a_sum_is_looked_at_by_its_own_id_and_when_an_order_of_its_day_changes(world: World) -> None:
    world.carry()
    whole = world.look()
    assert whole.verdict is Verdict.CONSISTENT and whole.compared > 4
    # Sums of days without rows: what somebody has put there, in every part of the ids.
    ghosts = 12
    for number in range(ghosts):
        day = (date(1999, 1, 1) + timedelta(days=number)).isoformat()
        world.execute(
            f"insert into read_models.{SUMS} (merchant_id, day, currency, row_count, captured_minor)"
            " values (%s, %s, 'GBP', 1, 5)",
            world.shop.merchant_id,
            day,
        )
    ((today,),) = world.execute(f"select sales_day_id from read_models.{SUMS} where day > '2000'")
    world.execute(f"update read_models.{SUMS} set refunded_minor = refunded_minor + 1 where day > '2000'")
    whole = world.look()
    everything = sums_in(whole)
    assert len(everything) == ghosts + 1 and everything[str(today)] == "amount"

    lower, upper = (
        sums_in(world.look(part_of(whole, part))) for part in (KeyRange(through=HALF), KeyRange(above=HALF))
    )
    assert {**lower, **upper} == everything and not set(lower) & set(upper)
    assert all(identifier <= HALF for identifier in lower) and lower and upper
    assert sums_in(world.look(part_of(whole))) == {}, "nothing changed, and no part is looked at"
    assert sums_in(world.look(part_of(whole, ids=frozenset({str(today)})))) == {str(today): "amount"}, "it has a break"
    plan = part_of(whole)
    world.shop.order()
    world.carry()
    assert sums_in(world.look(plan)) == {str(today): "amount"}, "an order of that day changed"


@pytest.mark.in_turn("comparisons")
def test_a_sum_that_is_gone_is_found_by_the_rows_of_its_day(world: World) -> None:
    world.carry()
    ((today,),) = world.execute(f"delete from read_models.{SUMS} returning sales_day_id")
    whole = world.look()
    assert sums_in(whole) == {str(today): "missing"}
    parts = [part_of(whole, KeyRange(through=HALF)), part_of(whole, KeyRange(above=HALF))]
    assert sorted(len(sums_in(world.look(part))) for part in parts) == [0, 1]
    # The other pod has no row of that day, and so nothing to say.
    (other,) = run_pairs(world.context, [PAIR], ["pod2"])
    assert other.verdict is Verdict.CONSISTENT


def test_an_incremental_comparison_reads_what_is_in_its_scope_however_large_the_tables_are(world: World) -> None:
    world.carry()
    (whole, *_) = world.look_at(VIEW_PAIRS)
    # No row is in this range of ids. But to find that out needs an index, too.
    plan = part_of(whole, KeyRange(above=HALF, through="80000000-ffff-ffff-ffff-ffffffffffff"))
    world.shop.paid()
    world.carry()
    read = []
    for _ in range(2):
        for statement in CROWD.split(";"):
            world.execute(statement)
        read.append(world.rows_read(VIEW_PAIRS, plan))
    assert not {name: rows for name, rows in read[0].items() if rows >= 100}
    assert read[0]["sales_orders"] and read[0]["sales_captures"] and read[0]["fulfillment_lines"]
    assert read[1] == read[0], "the tables are twice as large"
