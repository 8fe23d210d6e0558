"""Marts, journal and read models at a cut: nothing differs while nothing is wrong, and every damage is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from contracts.events.order import OrderState
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from derived.lake_connection import open_lake
from derived.read_models import migrate as migrate_read_models
from derived.read_models.fulfillment_view import build as build_fulfillment_view
from oltp.commands.execute import execute
from oltp.commands.restate import Restate
from reconcile.comparison_run import run_comparison, run_pairs
from reconcile.context import ReconcileContext
from reconcile.figures import FIGURES, total_figures
from stack.composition.comparison import build_reconcile_context
from stack.composition.projections import PROJECTIONS
from tests.integration.reconcile_world import VIEW_PAIRS, Shop, carrying, migrate_lake_of, open_shops, propagate
from tests.values import found

Shops = tuple[Shop, Shop]
ALL = PROJECTIONS
FINANCE = ("operational_finance", "journal_identities")


@pytest.fixture
def shops(settings: Settings) -> Iterator[Shops]:
    """A shop in each pod, everything done that can be done; lake and read models migrated."""
    migrate_lake_of(settings)
    migrate_read_models(settings.read_models_dsn)
    with open_shops(settings) as opened:
        for shop in opened:
            shop.everything()
            shop.paid_by_card()
        yield opened


@pytest.fixture
def context(settings: Settings) -> ReconcileContext:
    """The real context, but that asking how far the lake is first brings all copies there: no workers run here."""
    real = build_reconcile_context(settings, lag_seconds_max=10)

    return carrying(real, settings, ALL)


def not_consistent(results: list[PairResult]) -> list[object]:
    """Return what is to be seen of results that are not consistent."""
    return [(r.pair, r.pod, r.verdict, r.reason, r.sample[:2]) for r in results if r.verdict is not Verdict.CONSISTENT]


@pytest.mark.timeout(400)
def test_operations_and_finance(context: ReconcileContext, shops: Shops, settings: Settings) -> None:
    comparison = run_comparison(context, FINANCE)
    assert not_consistent(comparison.results) == []
    assert len(comparison.results) == 2 * 13
    assert all(result.compared > 0 for result in comparison.results)

    # Both sides' totals, at the same cuts.
    totals = {figure.name: figure for figure in total_figures(comparison.figures)}
    assert set(totals) == set(FIGURES)
    assert {figure.difference for figure in comparison.figures} == {0}
    assert totals["order_count"].operational == 18
    assert totals["refunded_minor"].finance is not None and totals["refunded_minor"].finance > 0
    assert totals["adjusted_minor"].finance == 2 * -1_106_206

    # Amounts on a wrong day: every total still ties.
    _move_to_another_day(settings)
    results = run_pairs(
        replace(context, build=lambda cuts: cuts), ("operational_finance", "journal_identities"), ["pod1"]
    )
    by_pair = {result.pair: result for result in results}
    assert {pair for pair, result in by_pair.items() if result.verdict is not Verdict.CONSISTENT} == {
        "operational_finance.tax",
        "operational_finance.daily_sales",
    }
    ((entity, _kind, columns),) = found(by_pair["operational_finance.tax"])
    assert (entity, set(columns)) == ("marts.tax_lines", {"tax_date"})
    daily = {(item.kind.value, item.key[1]) for item in by_pair["operational_finance.daily_sales"].sample}
    assert {kind for kind, _ in daily} == {"amount", "extra"} and len({day for _, day in daily}) == 2

    _damage_marts(settings)
    results = run_pairs(replace(context, build=lambda cuts: cuts), FINANCE, ["pod1"])
    by_pair = {result.pair: result for result in results}
    assert [
        (e, k, c["total_minor"][2]) for e, k, c in found(by_pair["operational_finance.orders"]) if k == "amount"
    ] == [("marts.orders", "amount", 1)]
    assert by_pair["operational_finance.payments"].classes == {"missing": 2}
    assert by_pair["operational_finance.refunds"].verdict is Verdict.CONSISTENT
    journal = by_pair["journal_identities"]
    assert journal.classes == {"amount": 1, "identity": 1}
    (identity,) = (item for item in found(journal) if item[1] == "identity")
    assert identity[2]["amount_micro"][0] == 0 and identity[2]["amount_micro"][1] != 0


@pytest.mark.in_turn("comparisons", seconds=20)
@pytest.mark.timeout(400)
def test_finance_agrees_while_it_goes_on_and_after_a_lost_cancellation(
    context: ReconcileContext, shops: Shops, settings: Settings
) -> None:
    # A warehouse that went on meanwhile is still compared as of the cut at which OLTP was read.
    assert context.build is not None
    build = context.build

    def build_with_more(cuts: Mapping[str, int]) -> Mapping[str, int]:
        shops[0].refunded()
        propagate(settings, settings.pods[0], ("lake",))
        return build(cuts)

    results = run_pairs(replace(context, build=build_with_more), FINANCE, ["pod1"])
    assert not_consistent(results) == []

    # A cancellation whose event is lost is stated again: it counts as cancelled, not as placed less than nothing.
    restated = _restated_cancellation(shops[0], settings)
    results = run_pairs(context, FINANCE, ["pod1"])
    assert not_consistent(results) == []
    assert restated.total_minor == restated.cancelled_minor > 0
    assert _daily(settings, "placed_minor", "cancelled_minor") == _placed_and_cancelled(settings)


def _restated_cancellation(shop: Shop, settings: Settings) -> OrderState:
    """Cancel a published order, lose the event before it leaves the pod, and state the order again."""
    order = shop.order()
    propagate(settings, settings.pods[0], ("lake",))
    cancelled: OrderState = shop.cancel(order.order_id)
    with psycopg.connect(settings.pods[0].owner_dsn) as connection:
        connection.execute("alter table oltp.outbox disable trigger user")
        connection.execute(
            "delete from oltp.outbox where aggregate_id = %s and aggregate_version = %s",
            [cancelled.order_id, cancelled.version],
        )
        connection.execute("alter table oltp.outbox enable trigger user")
    command = Restate(
        merchant_id=shop.merchant_id, aggregate_type="order", aggregate_id=order.order_id, cause="its event is lost"
    )
    assert execute(shop.pod, command, idempotency_key="restate").is_published
    return cancelled


def _daily(settings: Settings, *columns: str) -> tuple[Any, ...]:
    with open_lake(settings, read_only=True) as lake:
        sums = ", ".join(f"sum({name})" for name in columns)
        row = lake.execute(f"select {sums} from lake.marts.daily_sales where merchant_id = 'united-kingdom'").fetchone()
        assert row is not None
        return row


def _placed_and_cancelled(settings: Settings) -> tuple[Any, ...]:
    """Return OLTP's sums of the same merchant."""
    with psycopg.connect(settings.pods[0].reader_dsn) as connection:
        row = connection.execute(
            "select sum(total_minor), sum(cancelled_minor) from oltp.orders where merchant_id = 'united-kingdom'"
        ).fetchone()
        assert row is not None
        return row


def _move_to_another_day(settings: Settings) -> None:
    with open_lake(settings) as lake:
        lake.execute(
            """update lake.intermediate.int_tax_movements set tax_date = tax_date + 1
               where pod = 'pod1' and movement = 'charged' and tax_minor <> 0 and source_line_id = (
                   select min(source_line_id) from lake.intermediate.int_tax_movements
                   where pod = 'pod1' and movement = 'charged' and tax_minor <> 0)"""
        )
        lake.execute(
            """update lake.intermediate.int_journal_entries set entry_date = entry_date + 1
               where event_id = (select min(event_id) from lake.intermediate.int_journal_entries
                                 where pod = 'pod1' and event_type = 'payment_captured')"""
        )


def _damage_marts(settings: Settings) -> None:
    with open_lake(settings) as lake:
        lake.execute(
            """update lake.intermediate.int_orders_history set total_minor = total_minor + 1
               where pod = 'pod1' and valid_to_cut is null
                 and order_id = (select min(order_id) from lake.intermediate.int_orders_history where pod = 'pod1')"""
        )
        lake.execute(
            """delete from lake.intermediate.int_payments_history where pod = 'pod1' and payment_id = (
               select min(payment_id) from lake.intermediate.int_payments_history where pod = 'pod1')"""
        )
        lake.execute(
            """delete from lake.intermediate.int_journal_entries where pod = 'pod1' and account = 'clearing'
               and event_id = (select min(event_id) from lake.intermediate.int_journal_entries
                               where pod = 'pod1' and event_type = 'order_placed')"""
        )


def test_read_models(context: ReconcileContext, shops: Shops, settings: Settings) -> None:
    for pod in settings.pods:
        propagate(settings, pod, ALL)
    results = run_pairs(context, VIEW_PAIRS)
    assert not_consistent(results) == []
    assert all(result.compared > 0 and result.cut and len(result.cut_vector) == 4 for result in results)

    # The views may stand behind the lake: they are compared where they stand.
    shops[0].refunded()
    propagate(settings, settings.pods[0], ("lake",))
    real = build_reconcile_context(settings, lag_seconds_max=1)
    behind = run_pairs(real, VIEW_PAIRS, ["pod1"])
    assert not_consistent(behind) == [] and {r.cut for r in behind} == {r.cut for r in results if r.pod == "pod1"}

    # Ahead of the lake they are late, not wrong.
    propagate(settings, settings.pods[0], ("account_view",))
    shops[0].order()
    propagate(settings, settings.pods[0], ("account_view",))
    (late,) = run_pairs(replace(real, lag_seconds_max=0.05), ["lake_account_view"], ["pod1"])
    assert late.verdict is Verdict.LATE and late.compared == 0

    propagate(settings, settings.pods[0], ALL)
    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute("update read_models.account_orders set total_minor = total_minor - 1 where pod = 'pod1'")
        connection.execute("delete from read_models.account_payments where pod = 'pod1'")
        connection.execute(
            """insert into read_models.fulfillment_lines
               select merchant_id, order_id, 'ghost', 9, null, 'GHOST', 'Ghost', 1, 0, 0, 1
               from read_models.fulfillment_orders where pod = 'pod1' limit 1"""
        )
        connection.execute(
            """update read_models.account_entitlements set grants = replace(grants, '"level":3', '"level":4')
               where pod = 'pod1'"""
        )
        connection.execute("update read_models.sales_orders set ordered_minor = ordered_minor + 3 where pod = 'pod1'")
        connection.execute(
            """update read_models.merchant_sales_days set captured_minor = captured_minor - 1,
                      refunded_minor = refunded_minor - 1
               where merchant_id in (select merchant_id from read_models.sales_orders where pod = 'pod1')"""
        )
    account, fulfillment, sales = run_pairs(real, VIEW_PAIRS, ["pod1"])
    orders = [item for item in found(account) if item[0] == "account_orders"]
    assert {kind for _, kind, _ in orders} == {"amount"} and {c["total_minor"][2] for _, _, c in orders} == {-1}
    assert {kind for entity, kind, _ in found(account) if entity == "account_payments"} == {"missing"}
    grants = [item for item in found(account) if item[0] == "account_entitlement_grants"]
    assert grants == [("account_entitlement_grants", "different", {"level": (3, 4, 1)})]
    assert [(e, k) for e, k, _ in found(fulfillment)] == [("fulfillment_lines", "extra")]
    # A wrong row and its day's sum are one fault; a sum that its rows do not add up to is another.
    by_table = {entity: columns for entity, _, columns in found(sales)}
    assert {kind for _, kind, _ in found(sales)} == {"amount"}
    assert set(by_table) == {"sales_orders", "merchant_sales_days"}
    assert {name: column[2] for name, column in by_table["merchant_sales_days"].items()} == {
        "captured_minor": -1,
        "refunded_minor": -1,
    }

    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute("truncate read_models.fulfillment_orders")
    (truncated,) = run_pairs(real, ["lake_fulfillment_view"], ["pod1"])
    assert truncated.missing > 0 and truncated.classes.get("different") is None

    # Of where a row came from everything is compared; a row of another pod is missing in its own.
    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute("update read_models.fulfillment_reservations set epoch = 'x' where pod = 'pod1'")
        connection.execute("update read_models.sales_refunds set pod = 'pod2' where pod = 'pod1'")
    _, fulfillment, sales = run_pairs(real, VIEW_PAIRS, ["pod1"])
    epochs = [set(columns) for entity, _, columns in found(fulfillment) if entity == "fulfillment_reservations"]
    assert {*map(frozenset, epochs)} == {frozenset({"epoch"})}
    assert {kind for entity, kind, _ in found(sales) if entity == "sales_refunds"} == {"missing"}


@pytest.mark.in_turn("moved", seconds=35)
def test_a_row_is_compared_in_the_pod_that_its_aggregate_moved_to(
    context: ReconcileContext, shops: Shops, settings: Settings
) -> None:
    """An order of pod1 goes on in pod2; until the view has it from there, it is missing there and left over here."""
    for pod in settings.pods:
        propagate(settings, pod, ALL)
    moved, stays = shops[0].order().order_id, shops[0].order().order_id
    propagate(settings, settings.pods[0], ALL)
    _go_on_in_pod2(settings, moved)
    results = {result.pod: result for result in run_pairs(context, ["lake_account_view"])}
    wrong = {pod: [(d.entity, d.key, d.kind.value) for d in result.sample] for pod, result in results.items()}
    assert wrong == {
        "pod1": [("account_orders", (moved,), "extra")],
        "pod2": [("account_orders", (moved,), "missing")],
    }

    with psycopg.connect(settings.read_models_dsn) as connection:
        for table in ("account_orders", "fulfillment_orders", "sales_orders"):
            connection.execute(
                f"update read_models.{table} set pod = 'pod2', version = version + 1, directory_epoch = 2"
                " where order_id = %s".encode(),
                [moved],
            )
    assert not_consistent(run_pairs(context, VIEW_PAIRS)) == []

    # What the old pod says besides, and later, is older: of the same version, and of a higher one.
    for versions in (1, 2):
        _slip_in(settings, moved, versions)
    assert not_consistent(run_pairs(context, VIEW_PAIRS)) == []
    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute("update read_models.account_orders set directory_epoch = 7 where order_id = %s", [stays])
    (result,) = run_pairs(context, ["lake_account_view"], ["pod1"])
    assert [(d.key, [c.column for c in d.columns]) for d in result.sample] == [((stays,), ["directory_epoch"])]


def test_a_view_from_before_the_upgrade_lacks_what_waits_and_nothing_else(
    context: ReconcileContext, shops: Shops, settings: Settings
) -> None:
    """Before the migration the view had no payments: one that waits is missing, and is written alone."""
    propagate(settings, settings.pods[0], ALL)
    _, payment = shops[0].awaited()
    propagate(settings, settings.pods[0], ALL)
    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute("drop table read_models.fulfillment_payments")
        connection.execute("delete from read_models.migrations where name = '0010_awaited_payments'")
    migrate_read_models(settings.read_models_dsn)
    (result,) = run_pairs(context, ["lake_fulfillment_view"], ["pod1"])
    lacking = {difference.key for difference in result.sample}
    assert (payment.payment_id,) in lacking and len(lacking) == 2, "and the one of the busy shop"
    assert {(d.entity, d.kind.value) for d in result.sample} == {("fulfillment_payments", "missing")}
    with closing(build_fulfillment_view(settings)) as view:
        keys = [f"{shops[0].merchant_id}/payment/{payment_id}" for (payment_id,) in lacking]
        assert view.rebuild("pod1", keys).changed == 2
    assert not_consistent(run_pairs(context, ["lake_fulfillment_view"], ["pod1"])) == []


def _go_on_in_pod2(settings: Settings, order_id: str) -> None:
    """Put the next version of an order of pod1 into the lake as pod2 would have sent it."""
    _write_version(settings, order_id, 1, pod="pod2", directory_epoch=2)


def _slip_in(settings: Settings, order_id: str, versions: int) -> None:
    """Put a version of an order into the lake that the old pod sent after all."""
    _write_version(settings, order_id, versions, pod="pod1", directory_epoch=1)


def _write_version(settings: Settings, order_id: str, versions: int, *, pod: str, directory_epoch: int) -> None:
    with open_lake(settings) as lake:
        lake.execute(
            """insert into lake.raw.events by name
               select * replace (
                   $pod as pod, $directory_epoch as directory_epoch, uuid()::varchar as event_id,
                   aggregate_version + $versions as aggregate_version,
                   (select max(cut) from lake.raw.cuts where pod = $pod) as cut,
                   (select max("position") + 1 from lake.raw.events where pod = $pod) as "position",
                   replace(payload, '"version":1,', '"version":' || (1 + $versions) || ',') as payload
               ) from lake.raw.events
               where pod = 'pod1' and aggregate_id = $order_id and aggregate_version = 1""",
            {"pod": pod, "directory_epoch": directory_epoch, "versions": versions, "order_id": order_id},
        )
