"""Operations <-> the daily report: finance's figures of a merchant's day, computed from OLTP's tables alone.

Belongs here: the report's figures as SQL over OLTP. Does not belong here: marts with a row per fact
(`reconcile/finance_pairs.py`), the totals that are shown with a comparison (`reconcile/figures.py`).
"""

from __future__ import annotations

from reconcile.by_day import BY_DAY_QUERIES
from reconcile.finance_pairs import Mart, finance_pair
from reconcile.identity_pairs import PER_MINOR
from reconcile.shapes import Shape, sums

BY_DAY = (
    "order_count",
    "placed_minor",
    "captured_minor",
    "refunded_minor",
    "net_minor",
    "discount_minor",
    "adjusted_minor",
    "rounding_micro",
)
"""Figures whose day OLTP has: the day of placing, capturing, returning, adjusting, refunding, or its failing."""

OVER_ALL_DAYS = ("cancelled_minor", "tax_minor", "revenue_micro")
"""Figures that a cancellation changes. OLTP does not keep its day. `revenue` is sales plus shipping."""

CANNOT_CATCH = (
    "The day of what a cancellation took back (OLTP keeps its amount, not its day): cancelled_minor, tax_minor, sales "
    "and shipping are compared over all days; tax by day is found by operational_finance.tax. Sales and shipping "
    "exchanged (they are compared as one). last_recorded_at. A value that OLTP itself has wrong."
)


def _sums(names: tuple[str, ...]) -> str:
    return ", ".join(f"coalesce(sum({name}), 0)::HUGEINT as {name}" for name in names)


def _whole(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}::HUGEINT as {name}" for name in names)


def _any(names: tuple[str, ...]) -> str:
    return " or ".join(f"{name} <> 0" for name in names)


# A day with only a cancellation has a row in the report, but all of these figures are 0, so we leave it out.
DAYS = Mart(
    shape=Shape(
        name="marts.daily_sales",
        key=("merchant_id", "sales_date", "currency"),
        columns=sums(*BY_DAY),
        day="sales_date",
        currency="currency",
    ),
    left=f"""
        with figure as (
            select merchant_id, sales_date, currency, order_count, placed_minor, discount_minor, rounding_micro
            from {{orders_by_day}}
            union all by name
            select merchant_id, sales_date, currency, captured_minor, captured_minor as net_minor
            from {{captures_by_day}}
            union all by name
            select merchant_id, sales_date, currency, refunded_minor, -refunded_minor as net_minor
            from {{refunds_by_day}}
            union all by name
            select merchant_id, sales_date, currency, adjusted_minor, rounding_micro from {{adjustments_by_day}}
        ),
        day as (select merchant_id, sales_date, currency, {_sums(BY_DAY)} from figure group by all)
        select * from day where {_any(BY_DAY)}""",
    right=f"""
        select merchant_id, strftime(sales_date, '%Y-%m-%d') as sales_date, currency, {_whole(BY_DAY)}
        from lake.marts.daily_sales where {_any(BY_DAY)}""",
)

ALL_DAYS = Mart(
    shape=Shape(
        name="marts.daily_sales_over_all_days",
        key=("merchant_id", "currency"),
        columns=sums(*OVER_ALL_DAYS),
        currency="currency",
    ),
    left=f"""
        with figure as (
            select merchant_id, currency, cancelled_minor, tax_minor,
                   (placed_minor - cancelled_minor + discount_minor - tax_minor)
                   * {PER_MINOR} + rounding_micro as revenue_micro
            from {{orders_by_day}}
            union all by name
            select merchant_id, currency, -(held_minor * {PER_MINOR} + held_micro) as revenue_micro
            from {{deposits_by_merchant}}
            union all by name
            select merchant_id, currency, -tax_minor as tax_minor from {{refunds_by_day}}
            union all by name
            select merchant_id, currency, tax_minor from {{adjustments_by_day}}
        ),
        total as (select merchant_id, currency, {_sums(OVER_ALL_DAYS)} from figure group by all)
        select * from total where {_any(OVER_ALL_DAYS)}""",
    right=f"""
        with figure as (
            select merchant_id, currency, cancelled_minor, tax_minor, sales_micro + shipping_micro as revenue_micro
            from lake.marts.daily_sales
        ),
        total as (select merchant_id, currency, {_sums(OVER_ALL_DAYS)} from figure group by all)
        select * from total where {_any(OVER_ALL_DAYS)}""",
)

DAILY_PAIR = finance_pair(
    "daily_sales",
    (DAYS, ALL_DAYS),
    ("order", "payment", "refund", "adjustment"),
    "The report of every merchant's day in every currency, and of all days where OLTP keeps no day.",
    cannot_catch=CANNOT_CATCH,
    queries=BY_DAY_QUERIES,
)
