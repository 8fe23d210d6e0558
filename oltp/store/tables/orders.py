"""Orders with their lines, the tax basis of each line, and their discounts; fulfillments of them."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Table, Text, UniqueConstraint, text

from contracts.events.order import LineKind, OrderStatus
from oltp.store.tables.columns import (
    currency_check,
    id_column,
    integer_column,
    integer_columns,
    known,
    merchant_column,
    moment_column,
    not_negative,
    part_table,
    root_table,
    text_column,
    text_columns,
    version_check,
)
from oltp.store.tables.metadata import SCHEMA, metadata

orders = root_table(
    "orders",
    "order_id",
    text_column("order_number"),
    text_column("customer_id", nullable=True),
    *text_columns("currency", "status", "source"),
    id_column("reservation_id", ForeignKey(f"{SCHEMA}.reservations.reservation_id"), nullable=True),
    *integer_columns("lines_minor", "shipping_minor", "discount_minor", "added_tax_minor", "tax_minor"),
    *integer_columns("rounding_micro", "total_minor", "cancelled_minor", "cancelled_tax_minor"),
    moment_column("placed_at"),
    version_check(),
    currency_check(),
    known("status", OrderStatus),
    UniqueConstraint("merchant_id", "order_number"),
    *not_negative("lines_minor", "shipping_minor", "discount_minor", "added_tax_minor", "tax_minor", "total_minor"),
    *not_negative("cancelled_minor", "cancelled_tax_minor"),
    CheckConstraint(
        "total_minor = lines_minor - discount_minor + added_tax_minor + shipping_minor", name="total_is_its_parts"
    ),
    CheckConstraint("added_tax_minor <= tax_minor", name="added_tax_within_tax"),
    CheckConstraint("cancelled_minor <= total_minor", name="cancelled_within_total"),
    CheckConstraint("cancelled_tax_minor <= tax_minor", name="cancelled_tax_within_tax"),
    Index("orders_customer_idx", "merchant_id", "customer_id", postgresql_where=text("customer_id is not null")),
)

order_lines = part_table(
    "order_lines",
    "order_line_id",
    "orders.order_id",
    integer_column("line_number"),
    text_column("kind"),
    id_column("variant_id", nullable=True),
    *text_columns("sku", "title"),
    *integer_columns("quantity", "unit_price_micro"),
    text_column("price_source"),
    text_column("price_reason", nullable=True),
    *integer_columns("amount_minor", "rounding_micro", "discount_minor", "total_minor", "cancelled_quantity"),
    *integer_columns("cancelled_minor", "cancelled_tax_minor", "fulfilled_quantity", "withdrawn_quantity"),
    known("kind", LineKind),
    UniqueConstraint("order_id", "line_number"),
    CheckConstraint("line_number >= 1", name="line_number_positive"),
    CheckConstraint("quantity > 0", name="quantity_positive"),
    CheckConstraint("(kind = 'shipping') = (variant_id is null)", name="variant_unless_shipping"),
    *not_negative("unit_price_micro", "amount_minor", "discount_minor", "total_minor", "cancelled_quantity"),
    *not_negative("cancelled_minor", "cancelled_tax_minor", "fulfilled_quantity", "withdrawn_quantity"),
    CheckConstraint("discount_minor <= amount_minor", name="discount_within_amount"),
    CheckConstraint("cancelled_minor <= total_minor", name="cancelled_within_total"),
    CheckConstraint(
        "fulfilled_quantity + cancelled_quantity + withdrawn_quantity <= quantity", name="closed_within_quantity"
    ),
)

order_tax_lines = Table(
    "order_tax_lines",
    metadata,
    id_column("order_line_id", ForeignKey(f"{SCHEMA}.order_lines.order_line_id"), primary_key=True),
    id_column("order_id"),
    merchant_column(),
    *text_columns("jurisdiction", "tax_category"),
    integer_column("rate_ppm"),
    Column("is_tax_inclusive", Boolean, nullable=False),
    integer_column("taxable_minor"),
    integer_column("tax_minor"),
    # No index by order: a line's tax basis is found by the line.
    *not_negative("rate_ppm", "taxable_minor", "tax_minor"),
)

order_line_taxes = Table(
    "order_line_taxes",
    metadata,
    # For lines with several taxes, one row per tax; the line's row in order_tax_lines has their sums.
    id_column("order_line_id", ForeignKey(f"{SCHEMA}.order_lines.order_line_id"), primary_key=True),
    Column("jurisdiction", Text, primary_key=True),
    id_column("order_id"),
    merchant_column(),
    *integer_columns("rate_ppm", "tax_minor", "cancelled_tax_minor"),
    *not_negative("rate_ppm", "tax_minor", "cancelled_tax_minor"),
    CheckConstraint("cancelled_tax_minor <= tax_minor", name="cancelled_tax_within_tax"),
    Index(None, "order_id"),
)

order_discounts = part_table(
    "order_discounts",
    "order_discount_id",
    "orders.order_id",
    text_column("code"),
    integer_column("amount_minor"),
    # The number of the line that the discount names. The check of the order's totals also checks that this line exists
    # and has at least this discount.
    integer_column("line_number", nullable=True),
    CheckConstraint("amount_minor > 0", name="amount_positive"),
    CheckConstraint("line_number >= 1", name="line_number_positive"),
    Index(None, "order_id"),
)

fulfillments = root_table(
    "fulfillments",
    "fulfillment_id",
    id_column("order_id", ForeignKey(f"{SCHEMA}.orders.order_id")),
    text_column("location_id"),
    text_column("tracking_number", nullable=True),
    moment_column("shipped_at"),
    CheckConstraint("version = 1", name="happens_once"),
    Index(None, "order_id"),
)

fulfillment_lines = part_table(
    "fulfillment_lines",
    "fulfillment_line_id",
    "fulfillments.fulfillment_id",
    id_column("order_line_id", ForeignKey(f"{SCHEMA}.order_lines.order_line_id")),
    integer_column("quantity"),
    CheckConstraint("quantity > 0", name="quantity_positive"),
    Index(None, "fulfillment_id"),
    Index(None, "order_line_id"),
)
