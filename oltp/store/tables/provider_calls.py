"""Calls to the payment provider that are under way: written before the provider is asked, deleted with its answer."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Table, Text, func, text

from oltp.domain.provider_calls import CallKind
from oltp.store.tables.columns import (
    currency_check,
    id_column,
    integer_column,
    known,
    not_negative,
    text_column,
)
from oltp.store.tables.metadata import metadata

provider_calls = Table(
    "provider_calls",
    metadata,
    Column("merchant_id", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    text_column("command"),
    text_column("body"),
    text_column("kind"),
    text_column("provider_key"),
    id_column("order_id"),
    id_column("payment_id"),
    id_column("refund_id", nullable=True),
    text_column("subject"),
    integer_column("amount_minor"),
    text_column("currency"),
    Column("asked_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    currency_check(),
    known("kind", CallKind),
    *not_negative("amount_minor"),
    CheckConstraint("(kind = 'refund') = (refund_id is not null)", name="refund_is_named"),
    Index(None, "order_id"),
    # Only one authorization under way may use the same payment id.
    Index(
        "provider_calls_authorized_payment_idx",
        "payment_id",
        unique=True,
        postgresql_where=text("kind in ('authorize', 'transfer', 'debit', 'give_up')"),
    ),
)
