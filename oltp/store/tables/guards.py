"""Tables that guard the others: idempotency keys, allowed state transitions, and the audit of bypasses."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, Index, Table, Text, false, func, text
from sqlalchemy.dialects.postgresql import JSON

from oltp.store.tables.columns import text_column
from oltp.store.tables.metadata import metadata
from oltp.store.tables.propagation import XID8

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("merchant_id", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    text_column("command"),
    text_column("body_hash"),
    # The command's answer; set before the commit that makes the key visible.
    Column("response", JSON),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    # True for a key of an import, which may be repeated years later. Other keys are removed when their lease is over.
    Column("is_kept", Boolean, nullable=False, server_default=false()),
    Index("idempotency_keys_recorded_at_idx", "recorded_at", postgresql_using="brin"),
)

allowed_transitions = Table(
    "allowed_transitions",
    metadata,
    # Rows are data of the migrations and equal the tables in oltp/domain; '' as from_status means creation.
    Column("aggregate_type", Text, primary_key=True),
    Column("from_status", Text, primary_key=True),
    Column("to_status", Text, primary_key=True),
)

bypasses = Table(
    "bypasses",
    metadata,
    # A transaction that is listed here may write without events (restores, copies of a pod). Rows are never deleted.
    Column("xid", XID8, primary_key=True, server_default=text("pg_current_xact_id()")),
    text_column("reason"),
    Column("role_name", Text, nullable=False, server_default=text("current_user")),
    Column("declared_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)
