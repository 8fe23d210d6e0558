"""Every figure of OLTP that must follow from others: changed with the triggers off, it is named; untouched, none is."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from contracts.settings import Settings
from contracts.verdicts import Verdict
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from reconcile.oltp_identities import IDENTITIES
from stack.composition.comparison import build_reconcile_context
from stack.composition.migrations import migrate_everything
from tests.conftest import Cluster
from tests.integration.reconcile_world import open_shops

ORDER = "order_id = (select min(order_id::text)::uuid from oltp.orders where total_minor > 0)"
LINE = "order_line_id = (select min(order_line_id::text)::uuid from oltp.order_lines where total_minor > 9)"
PAYMENT = "payment_id = (select min(payment_id::text)::uuid from oltp.payments where captured_minor > 9)"
REFUND = "refund_id = (select min(refund_id::text)::uuid from oltp.refunds)"
OF_REFUND = "refund_line_id = (select min(refund_line_id::text)::uuid from oltp.refund_lines)"
DAMAGES = {
    "order.line_exact_micro": f"update oltp.order_lines set unit_price_micro = unit_price_micro + 1 where {LINE}",
    "order.line_rounding_micro_within_half": (
        "update oltp.order_lines set rounding_micro = rounding_micro + 20000, amount_minor = amount_minor - 2 "
        f"where {LINE} and discount_minor < amount_minor"
    ),
    "order.named_discounts_minor_within_line": (
        "update oltp.order_discounts set line_number = 2 where amount_minor > 60"
    ),
    "order.line_tax_minor": f"update oltp.order_tax_lines set rate_ppm = rate_ppm + 50000 where {LINE}",
    "order.line_cancelled_tax_minor": (f"update oltp.order_lines set cancelled_tax_minor = 1000000 where {LINE}"),
    "order.line_fulfilled_quantity": "update oltp.fulfillment_lines set quantity = quantity + 1",
    "order.captured_minor_within_owed": (
        "update oltp.orders set cancelled_minor = total_minor where order_id in (select order_id from oltp.payments "
        "where captured_minor > 0)"
    ),
    "order.status_of_its_lines": f"update oltp.orders set status = 'cancelled' where {ORDER}",
    "order.lines_of_its_merchant": f"update oltp.order_lines set merchant_id = 'eire' where {LINE}",
    "order.currency_of_its_merchant": f"update oltp.orders set currency = 'JPY' where {ORDER}",
    "order.refunded_quantity_within_line": f"update oltp.refund_lines set quantity = 1000 where {OF_REFUND}",
    "order.refunded_tax_minor_within_line": f"update oltp.refund_lines set tax_minor = amount_minor where {OF_REFUND}",
    "payment.merchant_of_its_order": f"update oltp.payments set merchant_id = 'eire' where {PAYMENT}",
    "refund.order_and_merchant_of_its_payment": f"update oltp.refunds set merchant_id = 'eire' where {REFUND}",
    "refund.lines_of_its_order": (
        "update oltp.refund_lines set order_line_id = (select order_line_id from oltp.order_lines "
        f"where order_id not in (select order_id from oltp.refunds) limit 1) where {OF_REFUND}"
    ),
    "reservation.status_of_its_lines": "update oltp.reservations set status = 'expired' where status = 'held'",
}


@pytest.fixture
def context(settings: Settings) -> Iterator[ReconcileContext]:
    migrate_everything(settings)
    with open_shops(settings) as shops:
        shops[0].everything()
        yield build_reconcile_context(settings, lag_seconds_max=10)


def broken(context: ReconcileContext) -> set[str]:
    (result,) = run_pairs(context, ["oltp_identities"], ["pod1"])
    assert result.verdict in (Verdict.CONSISTENT, Verdict.INCONSISTENT), result.reason
    return {item.entity for item in result.sample}


def test_every_figure_that_somebody_changed_is_named(
    context: ReconcileContext, settings: Settings, postgres: Cluster
) -> None:
    assert broken(context) == set()
    database = psycopg.conninfo.conninfo_to_dict(settings.pods[0].owner_dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database)), autocommit=True) as connection:
        for name, statement in DAMAGES.items():
            connection.execute("drop schema if exists kept cascade")
            connection.execute("create schema kept")
            tables = [row[0] for row in connection.execute("select tablename from pg_tables where schemaname = 'oltp'")]
            table = statement.partition("oltp.")[2].partition(" ")[0]
            assert table in tables
            connection.execute(f"create table kept.it as select * from oltp.{table}".encode())
            connection.execute("set session_replication_role = replica")
            assert connection.execute(statement.encode()).rowcount > 0, name
            assert name in broken(context), name
            connection.execute(f"delete from oltp.{table}".encode())
            connection.execute(f"insert into oltp.{table} select * from kept.it".encode())
    assert broken(context) == set()


def test_a_line_its_tax_basis_and_the_totals_raised_by_a_cent_are_named(
    context: ReconcileContext, settings: Settings, postgres: Cluster
) -> None:
    database = psycopg.conninfo.conninfo_to_dict(settings.pods[0].owner_dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database))) as connection:
        connection.execute("set session_replication_role = replica")
        ((line_id, order_id),) = connection.execute(
            f"select order_line_id, order_id from oltp.order_lines where {LINE}".encode()
        ).fetchall()
        for statement, value in (
            ("update oltp.order_lines set amount_minor = amount_minor + 1, total_minor = total_minor + 1 "
             "where order_line_id = %s", line_id),
            ("update oltp.order_tax_lines set taxable_minor = taxable_minor + 1 where order_line_id = %s", line_id),
            ("update oltp.orders set lines_minor = lines_minor + 1, total_minor = total_minor + 1 "
             "where order_id = %s", order_id),
        ):  # fmt: skip
            connection.execute(statement.encode(), (value,))
    assert "order.line_exact_micro" in broken(context)


def test_every_identity_has_a_name_of_its_own() -> None:
    names = [identity.shape.name for identity in IDENTITIES]
    assert sorted(set(names)) == sorted(names) and set(DAMAGES) <= set(names)
