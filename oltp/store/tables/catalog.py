"""Products, their attributes, their variants and prices."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Table, Text, UniqueConstraint

from contracts.events.product import ProductKind
from oltp.store.tables.columns import (
    currency_check,
    id_column,
    integer_column,
    known,
    merchant_column,
    not_negative,
    part_table,
    text_column,
    version_check,
    version_column,
)
from oltp.store.tables.metadata import SCHEMA, metadata

products = Table(
    "products",
    metadata,
    id_column("product_id", primary_key=True),
    Column("merchant_id", Text, ForeignKey(f"{SCHEMA}.merchants.merchant_id"), nullable=False),
    version_column(),
    text_column("title"),
    text_column("kind"),
    text_column("tax_category"),
    Column("is_active", Boolean, nullable=False),
    # The defaults equal those of the state: products from before these columns have none.
    Column("brand", Text, nullable=False, server_default=""),
    Column("body", Text, nullable=False, server_default=""),
    version_check(),
    known("kind", ProductKind),
)

product_attributes = Table(
    "product_attributes",
    metadata,
    id_column("product_id", ForeignKey(f"{SCHEMA}.products.product_id"), primary_key=True),
    Column("name", Text, primary_key=True),
    merchant_column(),
    text_column("value"),
)

variants = part_table(
    "variants",
    "variant_id",
    "products.product_id",
    text_column("sku"),
    text_column("title"),
    Column("is_active", Boolean, nullable=False),
    UniqueConstraint("merchant_id", "sku"),
    Index(None, "product_id"),
)

prices = Table(
    "prices",
    metadata,
    id_column("variant_id", ForeignKey(f"{SCHEMA}.variants.variant_id"), primary_key=True),
    Column("currency", Text, primary_key=True),
    id_column("product_id"),
    merchant_column(),
    integer_column("unit_price_micro"),
    currency_check(),
    *not_negative("unit_price_micro"),
    Index(None, "product_id"),
)
