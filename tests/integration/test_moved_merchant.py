"""A merchant that moved to another pod, whose old pod's events come late: all counts once, and all copies agree."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from contracts.settings import Settings
from contracts.verdicts import Verdict
from derived.lake_connection import open_lake
from derived.read_models import migrate as migrate_read_models
from reconcile.comparison_run import run_comparison, run_pairs
from reconcile.context import ReconcileContext
from stack.composition.comparison import build_reconcile_context
from tests.conftest import Cluster
from tests.integration.moving import move
from tests.integration.reconcile_world import Shop, busy_shops, carrying, migrate_lake_of, propagate

ALL = ("lake", "account_view", "fulfillment_view")
FAMILIES = ("oltp_lake", "operational_finance", "journal_identities", "oltp_identities", "lake_account_view",
            "lake_fulfillment_view", "outbox_log", "log_manifests", "stock_identity")  # fmt: skip


@pytest.fixture
def shops(settings: Settings) -> Iterator[tuple[Shop, Shop]]:
    migrate_lake_of(settings)
    migrate_read_models(settings.read_models_dsn)
    with busy_shops(settings) as opened:
        yield opened


@pytest.fixture
def context(settings: Settings) -> ReconcileContext:
    return carrying(build_reconcile_context(settings, lag_seconds_max=10), settings, ALL)


def check_all_agree(context: ReconcileContext) -> None:
    comparison = run_comparison(context, FAMILIES)
    wrong = [(r.pair, r.pod, r.verdict, r.reason, r.sample[:2]) for r in comparison.results]
    assert [one for one in wrong if one[2] is not Verdict.CONSISTENT] == []
    assert {figure.difference for figure in comparison.figures} == {0}


def placed(settings: Settings, merchant_id: str) -> list[tuple[object, ...]]:
    """Return what finance says of the merchant: number and sum of its orders, and its journal's turnover."""
    with open_lake(settings, read_only=True) as lake:
        return lake.execute(
            """select (select (count(*), sum(total_minor), sum(cancelled_minor)) from lake.marts.orders
                       where merchant_id = $m),
                      (select sum(abs(amount_micro)) from lake.marts.journal where merchant_id = $m),
                      (select (sum(order_count), sum(placed_minor), sum(cancelled_minor)) from lake.marts.daily_sales
                       where merchant_id = $m)""",
            {"m": merchant_id},
        ).fetchall()


@pytest.mark.in_turn("moved", seconds=62)
@pytest.mark.timeout(600)
def test_a_merchant_that_moved_is_compared_where_it_lives(
    settings: Settings, postgres: Cluster, shops: tuple[Shop, Shop], context: ReconcileContext
) -> None:
    shop, other = shops
    check_all_agree(context)
    cancelled, left = shop.order(), shop.order()
    move(settings, postgres, shop.merchant_id)
    shop.pod = other.pod
    shop.cancel(cancelled.order_id)
    for step in (shop.give_away, shop.order, shop.paid, shop.shipped, shop.refunded, shop.cancelled_in_part):
        step()
    # The new pod's events come first everywhere, with the next version of an order that no copy has heard of.
    propagate(settings, settings.pods[1], ALL)
    propagate(settings, settings.pods[0], ALL)
    check_all_agree(context)
    with open_lake(settings, read_only=True) as lake:
        rows = lake.execute(
            "select order_id, pod from lake.marts.orders where order_id in ($1, $2)",
            [cancelled.order_id, left.order_id],
        ).fetchall()
        assert dict(rows) == {cancelled.order_id: "pod2", left.order_id: "pod1"}
    before = placed(settings, shop.merchant_id)
    with psycopg.connect(settings.pods[1].reader_dsn) as connection:
        query = """select count(*), sum(total_minor), sum(cancelled_minor) from oltp.orders where merchant_id = %s"""
        assert [row[0] for row in before] == connection.execute(query, [shop.merchant_id]).fetchall()

    # What is wrong with it is found where it lives, also with what came from the old pod.
    with open_lake(settings) as lake:
        lake.execute("delete from lake.raw.events where aggregate_id = ?", [left.order_id])
    results = {result.pod: result for result in run_pairs(context, ["oltp_lake.order"])}
    assert results["pod1"].verdict is Verdict.CONSISTENT
    assert {d.key[0] for d in results["pod2"].sample if d.entity == "orders"} == {left.order_id}

    # Who lives nowhere is compared where its rows are: nothing is passed over.
    with psycopg.connect(settings.pods[1].owner_dsn) as connection:
        connection.execute("delete from oltp.residents where merchant_id = %s", [shop.merchant_id])
    results = {result.pod: result for result in run_pairs(context, ["oltp_lake.order"])}
    assert left.order_id in {d.key[0] for d in results["pod1"].sample if d.entity == "orders"}
