"""What the tables of the read models must hold, said of the lake's states in SQL of the comparison's own.

Belongs here: the shapes and expectations of the account and the fulfillment view. Does not belong here: how they are
read and compared (`reconcile/read_model_pairs.py`), or built (`derived/read_models/`).
"""

from __future__ import annotations

from dataclasses import dataclass

from reconcile.shapes import BIGINT, TIMESTAMP, VARCHAR, Column, Shape, belongs_to


def text(*names: str) -> tuple[Column, ...]:
    """Return text columns."""
    return tuple(Column(name=name, type=VARCHAR) for name in names)


def number(*names: str) -> tuple[Column, ...]:
    """Return whole-number columns."""
    return tuple(Column(name=name, type=BIGINT) for name in names)


def moment(*names: str) -> tuple[Column, ...]:
    """Return timestamp columns."""
    return tuple(Column(name=name, type=TIMESTAMP) for name in names)


@dataclass(frozen=True, kw_only=True)
class ViewTable:
    """A table of a view, and what the lake's states say it must hold.

    `expected` is DuckDB SQL over the folded states, ``{orders}`` standing for those of orders and so on. `root` names
    the table that says which pod a row belongs to, where the table itself does not.
    """

    shape: Shape
    aggregate_type: str
    id_column: str
    expected: str
    root: str | None = None

    @property
    def name(self) -> str:
        """The table's name in schema `read_models`."""
        return self.shape.name


ACCOUNT = (
    ViewTable(
        shape=Shape(
            name="account_orders",
            key=("order_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_number", "status", "currency"),
                *number("item_quantity", "lines_minor", "discount_minor", "shipping_minor", "tax_minor"),
                *number("total_minor", "cancelled_minor", "cancelled_tax_minor", "version"),
                *moment("placed_at"),
            ),
            day="placed_at",
            currency="currency",
            version="version",
            aggregate=belongs_to("order", "order_id"),
        ),
        aggregate_type="order",
        id_column="order_id",
        expected="""
            select o.*, coalesce(l.item_quantity, 0)::BIGINT as item_quantity
            from {orders} as o
            left join (
                select aggregate_id, sum(quantity) as item_quantity from {order_lines}
                where kind <> 'shipping' group by aggregate_id
            ) as l on l.aggregate_id = o.aggregate_id
            where o.customer_id is not null""",
    ),
    ViewTable(
        shape=Shape(
            name="account_payments",
            key=("payment_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_id", "status", "currency"),
                *number("authorized_minor", "captured_minor", "refunded_minor", "version"),
                *moment("authorized_at"),
            ),
            day="authorized_at",
            currency="currency",
            version="version",
            aggregate=belongs_to("payment", "payment_id"),
        ),
        aggregate_type="payment",
        id_column="payment_id",
        expected="select * from {payments} where customer_id is not null",
    ),
    ViewTable(
        shape=Shape(
            name="account_refunds",
            key=("refund_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_id", "payment_id", "status", "currency", "reason"),
                *number("amount_minor", "tax_minor", "version"),
                *moment("requested_at", "completed_at"),
            ),
            day="requested_at",
            currency="currency",
            version="version",
            aggregate=belongs_to("refund", "refund_id"),
        ),
        aggregate_type="refund",
        id_column="refund_id",
        expected="select * from {refunds} where customer_id is not null",
    ),
    ViewTable(
        shape=Shape(
            name="account_entitlements",
            key=("entitlement_id",),
            columns=(*text("merchant_id", "customer_id", "feature"), *number("effective_level", "version")),
            version="version",
            aggregate=belongs_to("customer_entitlement", "entitlement_id"),
        ),
        aggregate_type="customer_entitlement",
        id_column="entitlement_id",
        expected="select * from {customer_entitlements}",
    ),
)

OPEN = "quantity - fulfilled_quantity - cancelled_quantity - withdrawn_quantity"
HELD = "quantity - consumed_quantity - released_quantity"
FULFILLMENT = (
    ViewTable(
        shape=Shape(
            name="fulfillment_orders",
            key=("order_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_number", "status", "reservation_id"),
                *number("open_quantity", "version"),
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
            columns=(*text("merchant_id", "order_id", "status"), *number("version")),
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
)

GRANTS = ViewTable(
    shape=Shape(
        name="account_entitlement_grants",
        key=("entitlement_id", "grant_id"),
        columns=(
            *text("merchant_id", "grantor"),
            *number("level"),
            *moment("granted_at", "expires_at", "revoked_at"),
        ),
        aggregate=belongs_to("customer_entitlement", "entitlement_id"),
    ),
    aggregate_type="customer_entitlement",
    id_column="entitlement_id",
    expected="select *, aggregate_id as entitlement_id from {customer_entitlement_grants} where revoked_at is null",
)
"""The grants that survive; the view holds them as JSON in its entitlements, taken apart here."""
GRANTS_QUERY = """
    select merchant_id, entitlement_id, item ->> 'grant_id' as grant_id, item ->> 'grantor' as grantor,
           (item ->> 'level')::bigint as level, (item ->> 'granted_at')::timestamptz as granted_at,
           (item ->> 'expires_at')::timestamptz as expires_at, (item ->> 'revoked_at')::timestamptz as revoked_at
    from read_models.account_entitlements as present, json_array_elements(present.grants::json) as item
    where {condition}
"""


@dataclass(frozen=True, kw_only=True)
class View:
    """A read model: its name as a projection, and its tables."""

    name: str
    tables: tuple[ViewTable, ...]

    @property
    def aggregate_types(self) -> tuple[str, ...]:
        """The aggregates whose states it holds."""
        return tuple(dict.fromkeys(item.aggregate_type for item in self.tables))


ACCOUNT_VIEW = View(name="account_view", tables=(*ACCOUNT, GRANTS))
FULFILLMENT_VIEW = View(name="fulfillment_view", tables=FULFILLMENT)
