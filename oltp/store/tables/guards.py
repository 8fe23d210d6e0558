"""Tables that guard the others: idempotency keys, tables of aggregates, allowed state transitions, and bypasses."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Table,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from oltp.store.tables.columns import text_column
from oltp.store.tables.metadata import SCHEMA, metadata
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
    # A hash per field of the command; null: stored before there were any, or by a caller that does not need them.
    Column("field_hashes", JSON),
    Index("idempotency_keys_recorded_at_idx", "recorded_at", postgresql_using="brin"),
)

aggregate_roots = Table(
    "aggregate_roots",
    metadata,
    # Rows are data of the migrations: `oltp.declare_root` writes them, and attaches the guards.
    Column("aggregate_type", Text, primary_key=True),
    Column("number", BigInteger, Identity(always=True, cache=1), nullable=False),
    Column("table_name", Text, nullable=False, unique=True),
    text_column("id_column"),
)

aggregate_children = Table(
    "aggregate_children",
    metadata,
    # The same for the tables of an aggregate's parts, by `oltp.declare_child`.
    Column("table_name", Text, primary_key=True),
    Column("aggregate_type", Text, ForeignKey(f"{SCHEMA}.aggregate_roots.aggregate_type"), nullable=False),
    text_column("id_column"),
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
