"""What merchant sales must hold, computed from the lake's states: rows per order, capture and refund, and their sums.

Belongs here: its tables as SQL of the comparison's own. Does not belong here: how it is built
(`derived/read_models/merchant_sales.py`).
"""

from __future__ import annotations

from reconcile.shapes import Shape, belongs_to, number, sums, text
from reconcile.view_tables import ORIGIN, SumPart, View, ViewSum, rows_of

UTC_DAY = "strftime({} at time zone 'UTC', '%Y-%m-%d')"
TABLES = (
    rows_of(
        "order",
        "order_id",
        "sales_orders",
        columns=(
            *text("merchant_id", "day", "currency"),
            *number("ordered_minor", "cancelled_minor", "version"),
            *ORIGIN,
        ),
        day="day",
        currency="currency",
        expected=f"select *, {UTC_DAY.format('placed_at')} as day, total_minor as ordered_minor from {{orders}}",
    ),
    rows_of(
        "payment",
        "payment_id",
        "sales_payments",
        columns=(*text("merchant_id", "currency"), *number("version"), *ORIGIN),
        currency="currency",
        expected="""
            select p.* from {payments} as p
            where p.aggregate_id in (select aggregate_id from {payment_captures})""",
    ),
    rows_of(
        "payment",
        "payment_id",
        "sales_captures",
        part=("payment_capture_id",),
        columns=(*text("merchant_id", "day", "currency"), *number("captured_minor")),
        day="day",
        currency="currency",
        root="sales_payments",
        expected=f"""
            select c.* exclude (moved_at), c.aggregate_id as payment_id, {UTC_DAY.format("c.moved_at")} as day,
                   p.currency
            from (
                select aggregate_id, payment_capture_id, merchant_id, captured_at as moved_at,
                       amount_minor as captured_minor
                from {{payment_captures}}
                union all
                select aggregate_id, payment_movement_id, merchant_id, moved_at, -amount_minor
                from {{payment_movements}} where kind = 'returned'
            ) as c
            join {{payments}} as p on p.aggregate_id = c.aggregate_id""",
    ),
    rows_of(
        "refund",
        "refund_id",
        "sales_refunds",
        columns=(*text("merchant_id", "day", "currency"), *number("refunded_minor", "version"), *ORIGIN),
        day="day",
        currency="currency",
        expected=f"""
            select *, {UTC_DAY.format("completed_at")} as day, amount_minor as refunded_minor from {{refunds}}
            where status = 'completed'""",
    ),
)

DAYS = ViewSum(
    shape=Shape(
        name="merchant_sales_days",
        key=("sales_day_id",),
        columns=(
            *text("merchant_id", "day", "currency"),
            *sums("row_count", "order_count", "ordered_minor", "cancelled_minor", "captured_minor", "refunded_minor"),
        ),
        day="day",
        currency="currency",
        aggregate=belongs_to("merchant_sales_days", "sales_day_id"),
    ),
    id_column="sales_day_id",
    group=("merchant_id", "day", "currency"),
    parts=(
        SumPart(
            name="sales_orders",
            id_column="order_id",
            measures={
                "row_count": "1",
                "order_count": "1",
                "ordered_minor": "ordered_minor",
                "cancelled_minor": "cancelled_minor",
            },
        ),
        SumPart(
            name="sales_captures",
            id_column="payment_id",
            measures={"row_count": "1", "captured_minor": "captured_minor"},
            root="sales_payments",
        ),
        SumPart(
            name="sales_refunds",
            id_column="refund_id",
            measures={"row_count": "1", "refunded_minor": "refunded_minor"},
        ),
    ),
)
"""Each row of sums has an id of its own; a repair of a differing row computes its sums again."""

VIEW = View(
    name="merchant_sales",
    tables=TABLES,
    sums=(DAYS,),
    compared="Every row that a day's sales are made of, and what the days add up to.",
)
