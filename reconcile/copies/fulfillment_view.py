"""What the fulfillment view must hold, computed from the lake's states.

Belongs here: its tables as SQL of the comparison's own. Does not belong here: how it is built
(`derived/read_models/fulfillment_view.py`).
"""

from __future__ import annotations

from reconcile.shapes import Shape, belongs_to, moment, number, text
from reconcile.view_tables import ORIGIN, View, ViewTable

OPEN = "quantity - fulfilled_quantity - cancelled_quantity - withdrawn_quantity"
HELD = "quantity - consumed_quantity - released_quantity"
TABLES = (
    ViewTable(
        shape=Shape(
            name="fulfillment_orders",
            key=("order_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_number", "status", "reservation_id"),
                *number("open_quantity", "version"),
                *ORIGIN,
                *moment("ordered_at"),
            ),
            day="ordered_at",
            version="version",
            aggregate=belongs_to("order", "order_id"),
        ),
        aggregate_type="order",
        id_column="order_id",
        expected=f"""
            select o.*, o.placed_at as ordered_at, coalesce(l.open_quantity, 0)::BIGINT as open_quantity
            from {{orders}} as o
            left join (
                select aggregate_id, sum({OPEN}) as open_quantity from {{order_lines}}
                where kind = 'goods' group by aggregate_id
            ) as l on l.aggregate_id = o.aggregate_id""",
    ),
    ViewTable(
        shape=Shape(
            name="fulfillment_lines",
            key=("order_id", "order_line_id"),
            columns=(
                *text("merchant_id", "variant_id", "sku", "title"),
                *number("line_number", "quantity", "fulfilled_quantity", "cancelled_quantity", "open_quantity"),
            ),
            aggregate=belongs_to("order", "order_id"),
        ),
        aggregate_type="order",
        id_column="order_id",
        root="fulfillment_orders",
        expected=f"""
            select *, aggregate_id as order_id, {OPEN} as open_quantity from {{order_lines}}
            where kind = 'goods' and {OPEN} > 0""",
    ),
    ViewTable(
        shape=Shape(
            name="fulfillment_reservations",
            key=("reservation_id",),
            columns=(*text("merchant_id", "order_id", "status"), *number("version"), *ORIGIN),
            version="version",
            aggregate=belongs_to("reservation", "reservation_id"),
        ),
        aggregate_type="reservation",
        id_column="reservation_id",
        expected="select * from {reservations}",
    ),
    ViewTable(
        shape=Shape(
            name="fulfillment_reservation_lines",
            key=("reservation_id", "reservation_line_id"),
            columns=(*text("merchant_id", "variant_id", "location_id"), *number("held_quantity")),
            aggregate=belongs_to("reservation", "reservation_id"),
        ),
        aggregate_type="reservation",
        id_column="reservation_id",
        root="fulfillment_reservations",
        expected=f"""
            select *, aggregate_id as reservation_id, {HELD} as held_quantity from {{reservation_lines}}
            where {HELD} > 0""",
    ),
    ViewTable(
        shape=Shape(
            name="fulfillment_payments",
            key=("payment_id",),
            columns=(
                *text("merchant_id", "order_id", "currency"),
                *number("awaited_minor", "returned_minor", "version"),
                *ORIGIN,
                *moment("expires_at"),
            ),
            currency="currency",
            version="version",
            aggregate=belongs_to("payment", "payment_id"),
        ),
        aggregate_type="payment",
        id_column="payment_id",
        expected="""
            select *, case when expires_at is null then 0::BIGINT
                      else (authorized_minor - released_minor - captured_minor)::BIGINT end as awaited_minor
            from {payments} where method is not null""",
    ),
)

VIEW = View(
    name="fulfillment_view",
    tables=TABLES,
    compared=(
        "Every order with what is still to ship, every reservation with what it holds, and every bank transfer and "
        "direct debit with what is waited for or was taken back."
    ),
)
