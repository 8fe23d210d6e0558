"""Carts as their writer has written them through, and the orders that they became."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, DateTime, ForeignKey, Index, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from oltp.store.tables.columns import id_column, integer_column, moment_column, text_column
from oltp.store.tables.metadata import SCHEMA, metadata

carts = Table(
    "carts",
    metadata,
    Column("merchant_id", Text, primary_key=True),
    Column("cart_id", UUID(as_uuid=True), primary_key=True),
    integer_column("number"),
    # What the state has as `seen`; equal vectors mean equal carts.
    Column("vector", JSONB, nullable=False),
    Column("state", JSONB, nullable=False),
    # Of changes that are made here and not in Valkey (`oltp/carts/actors.py`).
    text_column("incarnation"),
    # Whether it may have changes that Valkey's state does not have.
    Column("is_ahead", Boolean, nullable=False),
    moment_column("touched_at"),
    Column("written_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("number >= 1", name="number_positive"),
    CheckConstraint("vector = state -> 'seen'", name="vector_is_the_states"),
    CheckConstraint("to_jsonb(number) = state -> 'number'", name="number_is_the_states"),
    Index("carts_is_ahead_idx", "merchant_id", "cart_id", postgresql_where=text("is_ahead")),
    Index(None, "touched_at"),
)

cart_orders = Table(
    "cart_orders",
    metadata,
    Column("merchant_id", Text, primary_key=True),
    Column("cart_id", UUID(as_uuid=True), primary_key=True),
    # The primary key lets one order be made of a cart with this number, whoever asks and however often.
    Column("number", integer_column("number").type, primary_key=True, autoincrement=False),
    id_column("order_id", ForeignKey(f"{SCHEMA}.orders.order_id")),
    moment_column("ordered_at"),
    CheckConstraint("number >= 1", name="number_positive"),
    Index(None, "order_id"),
)
