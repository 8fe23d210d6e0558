"""The daily report and tax against OLTP's tables: equal as they should be, and an amount on a wrong day is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from reconcile.compare import Outcome, compare
from reconcile.daily_pairs import ALL_DAYS, DAYS
from reconcile.finance_pairs import Mart, mart_view
from reconcile.oltp_side import left_name
from reconcile.pair import PodRun
from reconcile.scratch import scratch, table
from reconcile.tax_pair import TAX

# An order of two lines, one of them without tax; placed and captured late in the day, refunded in part, cancelled in
# part three days later; a refund that came back a day after it was paid; and a correction. 10,000 micro-units are a
# penny.
OLTP = {
    "orders": """
        select 'o1' as aggregate_id, 'o1' as order_id, 'm' as merchant_id, 'GBP' as currency,
               timestamptz '2026-01-31 23:59:59+00' as placed_at""",
    "order_lines": """
        select 'o1' as aggregate_id, 'l1' as order_line_id, 'm' as merchant_id, 'GB' as jurisdiction,
               'standard' as tax_category, 200000 as rate_ppm, 1000 as taxable_minor, 200 as tax_minor,
               120 as cancelled_minor, 20 as cancelled_tax_minor
        union all select 'o1', 'l2', 'm', 'GB', 'shipping', 0, 0, 0, 0, 0
        union all select 'o1', 'l3', 'm', 'CA-QC', 'several', 149750, 8697, 1303, 5000, 652""",
    "order_line_taxes": """
        select 'o1' as aggregate_id, 'l3' as order_line_id, 'CA-GST' as jurisdiction, 50000 as rate_ppm,
               435 as tax_minor, 218 as cancelled_tax_minor
        union all select 'o1', 'l3', 'CA-QST', 99750, 868, 434""",
    "refunds": """
        select 'r1' as aggregate_id, 'o1' as order_id, 'm' as merchant_id, 'GBP' as currency, 60 as amount_minor,
               10 as tax_minor, 'completed' as status, timestamptz '2026-02-02 12:00:00+00' as completed_at,
               null::timestamptz as failed_at
        union all select 'r2', 'o1', 'm', 'GBP', 60, 10, 'requested', null, null
        union all select 'r3', 'o1', 'm', 'GBP', 60, 4, 'failed', timestamptz '2026-02-05 12:00:00+00',
                         timestamptz '2026-02-06 12:00:00+00'
        union all select 'r4', 'o1', 'm', 'GBP', 60, 10, 'failed', null, timestamptz '2026-02-06 12:00:00+00'""",
    "refund_lines": """
        select 'r1' as aggregate_id, 'rl1' as refund_line_id, 'l1' as order_line_id, 'GB' as jurisdiction,
               'standard' as tax_category, 60 as amount_minor, 10 as tax_minor
        union all select 'r2', 'rl2', 'l1', 'GB', 'standard', 60, 10
        union all select 'r1', 'rl3', 'l3', 'CA-QC', 'several', 5000, 651
        union all select 'r3', 'rl4', 'l3', 'CA-QC', 'several', 60, 4
        union all select 'r4', 'rl5', 'l1', 'GB', 'standard', 60, 10""",
    "refund_line_taxes": """
        select 'r1' as aggregate_id, 'rl3' as refund_line_id, 'CA-GST' as jurisdiction, 217 as tax_minor
        union all select 'r1', 'rl3', 'CA-QST', 434
        union all select 'r3', 'rl4', 'CA-QST', 4""",
    "adjustments": """
        select 'a1' as aggregate_id, 'a1' as adjustment_id, 'm' as merchant_id, 'GBP' as currency,
               -50 as amount_minor, -8 as tax_minor, 'GB' as jurisdiction, 'standard' as tax_category,
               200000 as rate_ppm, timestamptz '2026-02-01 12:00:00+00' as adjusted_at
        union all select 'a2', 'a2', 'm', 'GBP', -90, 0, null, null, null, timestamptz '2026-02-01 12:00:00+00'
        union all select 'a3', 'a3', 'm', 'GBP', -10000, -1302, 'CA-QC', 'several', 149750,
                         timestamptz '2026-02-01 12:00:00+00'""",
    "adjustment_taxes": """
        select 'a3' as aggregate_id, 'CA-GST' as jurisdiction, 50000 as rate_ppm, -435 as tax_minor
        union all select 'a3', 'CA-QST', 99750, -867""",
    "orders_by_day": """
        select 'm' as merchant_id, '2026-01-31' as sales_date, 'GBP' as currency, 1 as order_count,
               1200 as placed_minor, 100 as discount_minor, 40 as rounding_micro, 120 as cancelled_minor,
               180 as tax_minor""",
    "captures_by_day": """
        select 'm' as merchant_id, '2026-02-01' as sales_date, 'GBP' as currency, 1200 as captured_minor""",
    "refunds_by_day": """
        select 'm' as merchant_id, '2026-02-02' as sales_date, 'GBP' as currency, 60 as refunded_minor,
               10 as tax_minor
        union all select 'm', '2026-02-05', 'GBP', 60, 4
        union all select 'm', '2026-02-06', 'GBP', -60, -4""",
    "adjustments_by_day": """
        select 'm' as merchant_id, '2026-02-01' as sales_date, 'GBP' as currency, -50 as adjusted_minor,
               7 as rounding_micro, -8 as tax_minor""",
    "deposits_by_merchant": """
        select 'm' as merchant_id, 'GBP' as currency, 100 as held_minor, 30 as held_micro""",
}
# What the dbt models say of it; on the 3rd only the cancellation happened. 100.003 pence are a deposit, and no sale.
DAILY_SALES = """
    create table lake.marts.daily_sales as
    select * from (values
        ('m', date '2026-01-31', 'GBP', 1, 1200,   0,    0,  0,    0, 200, 100,   0, 10000010,  0, 40),
        ('m', date '2026-02-01', 'GBP', 0,    0,   0, 1200,  0, 1200,  -8,   0, -50,        0,  0,  7),
        ('m', date '2026-02-02', 'GBP', 0,    0,   0,    0, 60,  -60, -10,   0,   0,        0,  0,  0),
        ('m', date '2026-02-05', 'GBP', 0,    0,   0,    0, 60,  -60,  -4,   0,   0,        0,  0,  0),
        ('m', date '2026-02-06', 'GBP', 0,    0,   0,    0, -60,  60,   4,   0,   0,        0,  0,  0),
        ('m', date '2026-02-03', 'GBP', 0,    0, 120,    0,  0,    0, -20,   0,   0, -1000000,  0,  0)
    ) as t (merchant_id, sales_date, currency, order_count, placed_minor, cancelled_minor, captured_minor,
            refunded_minor, net_minor, tax_minor, discount_minor, adjusted_minor, sales_micro, shipping_micro,
            rounding_micro)"""
TAX_LINES = """
    create table lake.marts.tax_lines as
    select 'pod1' as pod, if(movement = 'adjusted', null, 'o1') as order_id, 'm' as merchant_id, 'GBP' as currency,
           case when tax_category <> 'several' then 'GB' when tax_minor in (435, -218, -217, -435) then 'CA-GST'
           else 'CA-QST' end as jurisdiction, * from (values
        ('a1', 'adjusted', null, 'standard', 200000, -42, -8, date '2026-02-01'),
        ('a3', 'adjusted', null, 'several', 50000, -8698, -435, date '2026-02-01'),
        ('a3', 'adjusted', null, 'several', 99750, -8698, -867, date '2026-02-01'),
        ('l3', 'charged', 'l3', 'several', 50000, 8697, 435, date '2026-01-31'),
        ('l3', 'charged', 'l3', 'several', 99750, 8697, 868, date '2026-01-31'),
        ('l3', 'cancelled', 'l3', 'several', 50000, -4348, -218, date '2026-02-03'),
        ('l3', 'cancelled', 'l3', 'several', 99750, -4348, -434, date '2026-02-03'),
        ('rl3', 'refunded', 'l3', 'several', null, -4349, -217, date '2026-02-02'),
        ('rl3', 'refunded', 'l3', 'several', null, -4349, -434, date '2026-02-02'),
        ('rl4', 'refunded', 'l3', 'several', null, -56, -4, date '2026-02-05'),
        ('rl4', 'refunded', 'l3', 'several', null, 56, 4, date '2026-02-06'),
        ('l1', 'charged', 'l1', 'standard', 200000, 1000, 200, date '2026-01-31'),
        ('l2', 'charged', 'l2', 'shipping', 0, 0, 0, date '2026-01-31'),
        ('l1', 'cancelled', 'l1', 'standard', 200000, -50, -10, date '2026-02-03'),
        ('l1', 'cancelled', 'l1', 'standard', 200000, -50, -10, date '2026-02-04'),
        ('rl1', 'refunded', 'l1', 'standard', null, -50, -10, date '2026-02-02')
    ) as t (source_line_id, movement, order_line_id, tax_category, rate_ppm, taxable_minor, tax_minor, tax_date)"""


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """OLTP's scratch tables of pod1, and the marts as plain tables."""
    with duckdb.connect() as opened, scratch(opened) as ready:
        ready.execute("set TimeZone = 'UTC'")
        ready.execute("attach ':memory:' as lake")
        ready.execute("create schema lake.marts")
        ready.execute(DAILY_SALES)
        ready.execute(TAX_LINES)
        for name, rows in OLTP.items():
            ready.execute(f"create table {table(left_name('pod1', name))} as {rows}")
            widen(ready, table(left_name("pod1", name)))
        widen(ready, "lake.marts.tax_lines")
        yield ready
        ready.execute("detach lake")


def widen(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Give every whole number of a table the width that it has in OLTP and in the marts."""
    for column, kind, *_ in connection.execute(f"describe {name}").fetchall():
        if kind == "INTEGER":
            connection.execute(f"alter table {name} alter {column} type BIGINT")


def compared(connection: duckdb.DuckDBPyConnection, mart: Mart) -> Outcome:
    context: Any = None  # nothing of it is needed
    left, right = mart_view(PodRun(context=context, connection=connection, pod="pod1", cut=1), mart)
    return compare(connection, mart.shape, left, right)


def found(outcome: Outcome) -> list[tuple[str, tuple[str | None, ...], set[str]]]:
    return sorted((d.kind.value, d.key, {column.column for column in d.columns}) for d in outcome.sample)


@pytest.mark.parametrize(("mart", "rows"), [(DAYS, 5), (ALL_DAYS, 1), (TAX[0], 15)])
def test_equal_books_are_equal(connection: duckdb.DuckDBPyConnection, mart: Mart, rows: int) -> None:
    outcome = compared(connection, mart)
    assert found(outcome) == [] and outcome.compared == rows


def test_an_amount_on_a_wrong_day_is_found(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "update lake.marts.daily_sales set captured_minor = 1100, net_minor = 1100 where sales_date = '2026-02-01'"
    )
    connection.execute(
        "update lake.marts.daily_sales set captured_minor = 100, net_minor = 100 where sales_date = '2026-01-31'"
    )
    assert [(key, columns) for _, key, columns in found(compared(connection, DAYS))] == [
        (("m", "2026-01-31", "GBP"), {"captured_minor", "net_minor"}),
        (("m", "2026-02-01", "GBP"), {"captured_minor", "net_minor"}),
    ]
    assert found(compared(connection, ALL_DAYS)) == []


def test_an_order_too_few_is_found(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("update lake.marts.daily_sales set order_count = 0")
    ((_, key, columns),) = found(compared(connection, DAYS))
    assert (key, columns) == (("m", "2026-01-31", "GBP"), {"order_count"})


def test_what_a_cancellation_took_back_is_compared_over_all_days(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "update lake.marts.daily_sales set cancelled_minor = 119, tax_minor = -19 where cancelled_minor > 0"
    )
    ((_, key, columns),) = found(compared(connection, ALL_DAYS))
    assert (key, columns) == (("m", "GBP"), {"cancelled_minor", "tax_minor"})
    assert found(compared(connection, DAYS)) == []


@pytest.mark.parametrize("movement", ["charged", "refunded", "adjusted"])
def test_tax_on_a_wrong_day_is_found(connection: duckdb.DuckDBPyConnection, movement: str) -> None:
    connection.execute(
        "update lake.marts.tax_lines set tax_date = tax_date + 1 where movement = ? and tax_minor <> 0 "
        "and jurisdiction = 'GB'",
        [movement],
    )
    ((_, (source_line_id, which, _), columns),) = found(compared(connection, TAX[0]))
    assert (which, columns) == (movement, {"tax_date"}) and source_line_id in ("l1", "rl1", "a1")


def test_a_failing_on_a_wrong_day_is_found(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("update lake.marts.tax_lines set tax_date = tax_date + 1 where tax_minor = 4")
    assert found(compared(connection, TAX[0])) == [("different", ("rl4", "returned", "CA-QST"), {"tax_date"})]


def test_tax_of_one_of_several_is_named(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "update lake.marts.tax_lines set tax_minor = tax_minor + 1 where movement = 'charged' and rate_ppm = 50000"
    )
    assert found(compared(connection, TAX[0])) == [("tax", ("l3", "charged", "CA-GST"), {"tax_minor"})]
