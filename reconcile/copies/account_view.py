"""What the account view must hold, computed from the lake's states.

Belongs here: its tables as SQL of the comparison's own. Does not belong here: how it is built
(`derived/read_models/account_view.py`).
"""

from __future__ import annotations

from reconcile.shapes import moment, number, text
from reconcile.view_tables import ORIGIN, View, rows_of

TABLES = (
    rows_of(
        "order",
        "order_id",
        "account_orders",
        columns=(
            *text("merchant_id", "customer_id", "order_number", "status", "currency"),
            *number("item_quantity", "lines_minor", "discount_minor", "shipping_minor", "tax_minor"),
            *number("total_minor", "cancelled_minor", "cancelled_tax_minor", "version"),
            *ORIGIN,
            *moment("placed_at"),
        ),
        day="placed_at",
        currency="currency",
        expected="""
            select o.*, coalesce(l.item_quantity, 0)::BIGINT as item_quantity
            from {orders} as o
            left join (
                select aggregate_id, sum(quantity) as item_quantity from {order_lines}
                where kind <> 'shipping' group by aggregate_id
            ) as l on l.aggregate_id = o.aggregate_id
            where o.customer_id is not null""",
    ),
    rows_of(
        "payment",
        "payment_id",
        "account_payments",
        columns=(
            *text("merchant_id", "customer_id", "order_id", "status", "currency", "method"),
            *number("authorized_minor", "captured_minor", "refunded_minor", "version"),
            *number("pending_minor", "returned_minor"),
            *ORIGIN,
            *moment("authorized_at", "expires_at"),
        ),
        day="authorized_at",
        currency="currency",
        expected="""
            select *, (case when expires_at is null then 0 else authorized_minor - released_minor - captured_minor end)
                      ::BIGINT as pending_minor
            from {payments} where customer_id is not null""",
    ),
    rows_of(
        "refund",
        "refund_id",
        "account_refunds",
        columns=(
            *text("merchant_id", "customer_id", "order_id", "payment_id", "status", "currency", "reason"),
            *number("amount_minor", "tax_minor", "version"),
            *ORIGIN,
            *moment("requested_at", "completed_at", "failed_at"),
        ),
        day="requested_at",
        currency="currency",
        expected="select * from {refunds} where customer_id is not null",
    ),
    rows_of(
        "customer_entitlement",
        "entitlement_id",
        "account_entitlements",
        columns=(
            *text("merchant_id", "customer_id", "feature"),
            *number("effective_level", "version"),
            *ORIGIN,
        ),
        expected="select * from {customer_entitlements}",
    ),
)

GRANTS = rows_of(
    "customer_entitlement",
    "entitlement_id",
    "account_entitlement_grants",
    part=("grant_id",),
    columns=(
        *text("merchant_id", "grantor"),
        *number("level"),
        *moment("granted_at", "expires_at", "revoked_at"),
    ),
    expected="select *, aggregate_id as entitlement_id from {customer_entitlement_grants} where revoked_at is null",
    query="""
    select merchant_id, entitlement_id, item ->> 'grant_id' as grant_id, item ->> 'grantor' as grantor,
           (item ->> 'level')::bigint as level, (item ->> 'granted_at')::timestamptz as granted_at,
           (item ->> 'expires_at')::timestamptz as expires_at, (item ->> 'revoked_at')::timestamptz as revoked_at
    from read_models.account_entitlements as present, json_array_elements(present.grants::json) as item
    where {condition}
""",
)
"""The grants that are not revoked. The view holds them as JSON in its entitlements; this query unnests them."""

VIEW = View(
    name="account_view",
    tables=(*TABLES, GRANTS),
    compared="Every row of a customer's orders, payments, refunds and entitlements.",
)
