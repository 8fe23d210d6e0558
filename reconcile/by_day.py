"""OLTP's sums by merchant, day and currency. PostgreSQL computes them, so we read few rows however many orders exist.

Belongs here: those queries; they are compared in `reconcile/daily_pairs.py` and shown by `reconcile/figures.py`. Does
not belong here: rows of single aggregates.
"""

from __future__ import annotations

from contracts.events.order import DEPOSIT_TAX_CATEGORY

BY_DAY_QUERIES = {
    "orders_by_day": """
        select merchant_id, to_char(day, 'YYYY-MM-DD') as sales_date, currency, order_count, placed_minor,
               discount_minor, rounding_micro, cancelled_minor, tax_minor
        from (
            select merchant_id, placed_at::date as day, currency, count(*) as order_count,
                   sum(total_minor)::text as placed_minor, sum(discount_minor)::text as discount_minor,
                   sum(rounding_micro)::text as rounding_micro, sum(cancelled_minor)::text as cancelled_minor,
                   sum(tax_minor - cancelled_tax_minor)::text as tax_minor
            from oltp.orders group by merchant_id, placed_at::date, currency
        ) as o
    """,
    "captures_by_day": """
        select merchant_id, to_char(day, 'YYYY-MM-DD') as sales_date, currency, captured_minor
        from (
            select p.merchant_id, moved.day, p.currency, sum(moved.amount_minor)::text as captured_minor
            from (
                select payment_id, captured_at::date as day, amount_minor from oltp.payment_captures
                union all
                select payment_id, moved_at::date, -amount_minor from oltp.payment_movements where kind = 'returned'
            ) as moved
            join oltp.payments as p on p.payment_id = moved.payment_id
            group by p.merchant_id, moved.day, p.currency
        ) as c
    """,
    "refunds_by_day": """
        select merchant_id, to_char(day, 'YYYY-MM-DD') as sales_date, currency, refunded_minor, tax_minor
        from (
            select merchant_id, day, currency, sum(amount_minor)::text as refunded_minor,
                   sum(tax_minor)::text as tax_minor
            from (
                select merchant_id, completed_at::date as day, currency, amount_minor, tax_minor
                from oltp.refunds where completed_at is not null
                union all
                select merchant_id, failed_at::date, currency, -amount_minor, -tax_minor
                from oltp.refunds where completed_at is not null and status = 'failed'
            ) as moved
            group by merchant_id, day, currency
        ) as r
    """,
    "adjustments_by_day": """
        select merchant_id, to_char(day, 'YYYY-MM-DD') as sales_date, currency, adjusted_minor, rounding_micro,
               tax_minor
        from (
            select merchant_id, adjusted_at::date as day, currency, sum(amount_minor)::text as adjusted_minor,
                   sum(rounding_micro)::text as rounding_micro, sum(tax_minor)::text as tax_minor
            from oltp.adjustments group by merchant_id, adjusted_at::date, currency
        ) as a
    """,
    "deposits_by_merchant": f"""
        select merchant_id, currency, held_minor, held_micro
        from (
            select o.merchant_id, o.currency, sum(l.rounding_micro)::text as held_micro,
                   sum(
                       l.amount_minor - case when t.is_tax_inclusive then t.tax_minor else 0 end
                       - (l.cancelled_minor - l.cancelled_tax_minor)
                   )::text as held_minor
            from oltp.order_tax_lines as t
            join oltp.order_lines as l on l.order_line_id = t.order_line_id
            join oltp.orders as o on o.order_id = l.order_id
            where t.tax_category = '{DEPOSIT_TAX_CATEGORY}'
            group by o.merchant_id, o.currency
        ) as d
    """,
}
"""Name of the scratch table -> query. Days are UTC days, because the session's time zone is UTC. Sums are transferred
as text (`read_queries`), because PostgreSQL's numeric sums may exceed 64 bits.
"""
