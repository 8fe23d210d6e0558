"""Merchants, their tax rates, synonyms and entitlements, and the entitlements of their customers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Table, Text, UniqueConstraint

from oltp.store.tables.columns import (
    currency_check,
    id_column,
    integer_column,
    integer_columns,
    merchant_column,
    moment_column,
    not_negative,
    root_table,
    text_column,
    text_columns,
    version_check,
    version_column,
)
from oltp.store.tables.metadata import SCHEMA, metadata

merchants = Table(
    "merchants",
    metadata,
    Column("merchant_id", Text, primary_key=True),
    version_column(),
    *text_columns("name", "currency"),
    Column("is_active", Boolean, nullable=False),
    Column("is_tax_inclusive", Boolean, nullable=False),
    text_column("jurisdiction"),
    integer_column("shipping_fee_minor"),
    integer_column("free_shipping_from_minor", nullable=True),
    moment_column("registered_at"),
    *integer_columns("bank_transfer_days", "direct_debit_days"),
    Column("ships_before_paid", Boolean, nullable=False),
    version_check(),
    currency_check(),
    *not_negative("shipping_fee_minor", "free_shipping_from_minor"),
    CheckConstraint("least(bank_transfer_days, direct_debit_days) >= 1", name="waits_a_day"),
)

residents = Table(
    "residents",
    metadata,
    # Merchants that live in this pod now, and since which epoch of the directory. Commands read this table first, so
    # deleting a row fences a merchant without a change of the merchant's own state.
    Column("merchant_id", Text, ForeignKey(f"{SCHEMA}.merchants.merchant_id"), primary_key=True),
    integer_column("directory_epoch"),
    CheckConstraint("directory_epoch >= 1", name="directory_epoch_positive"),
)

merchant_tax_rates = Table(
    "merchant_tax_rates",
    metadata,
    Column("merchant_id", Text, ForeignKey(f"{SCHEMA}.merchants.merchant_id"), primary_key=True),
    Column("jurisdiction", Text, primary_key=True),
    Column("tax_category", Text, primary_key=True),
    # Empty when the category has one tax. The default equals the default of TaxRate, because JSON leaves out default
    # values.
    Column("owed_to", Text, primary_key=True, server_default=""),
    integer_column("rate_ppm"),
    *not_negative("rate_ppm"),
)

merchant_synonyms = Table(
    "merchant_synonyms",
    metadata,
    Column("merchant_id", Text, ForeignKey(f"{SCHEMA}.merchants.merchant_id"), primary_key=True),
    Column("words", Text, primary_key=True),
    Column("means", Text, primary_key=True),
)


def _entitlement_columns() -> list[Any]:
    return [
        text_column("feature"),
        integer_column("effective_level"),
        id_column("effective_grant_id", nullable=True),
        version_check(),
        *not_negative("effective_level"),
    ]


def _grant_columns(entitlements: str) -> list[Any]:
    return [
        id_column("grant_id", primary_key=True),
        id_column("entitlement_id", ForeignKey(f"{SCHEMA}.{entitlements}.entitlement_id")),
        merchant_column(),
        text_column("grantor"),
        integer_column("level"),
        moment_column("granted_at"),
        moment_column("expires_at", nullable=True),
        moment_column("revoked_at", nullable=True),
        CheckConstraint("level >= 1", name="level_positive"),
        Index(None, "entitlement_id"),
    ]


merchant_entitlements = Table(
    "merchant_entitlements",
    metadata,
    id_column("entitlement_id", primary_key=True),
    Column("merchant_id", Text, ForeignKey(f"{SCHEMA}.merchants.merchant_id"), nullable=False),
    version_column(),
    *_entitlement_columns(),
    UniqueConstraint("merchant_id", "feature"),
)

merchant_entitlement_grants = Table("merchant_entitlement_grants", metadata, *_grant_columns("merchant_entitlements"))

customer_entitlements = root_table(
    "customer_entitlements",
    "entitlement_id",
    text_column("customer_id"),
    *_entitlement_columns(),
    UniqueConstraint("merchant_id", "customer_id", "feature"),
)

customer_entitlement_grants = Table("customer_entitlement_grants", metadata, *_grant_columns("customer_entitlements"))
