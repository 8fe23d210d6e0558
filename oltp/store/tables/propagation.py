"""Tables through which events leave the pod: the outbox, the cuts, and the epochs of the cuts.

Belongs here: tables that commands write and relays read. Does not belong here: how cuts work (`streams/cuts.py`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, UUID
from sqlalchemy.types import UserDefinedType

from oltp.store.tables.metadata import metadata


class XID8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type's name in DDL."""
        return "xid8"


class PgSnapshot(UserDefinedType[str]):
    """PostgreSQL's `pg_snapshot`: which transactions were visible at one moment."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type's name in DDL."""
        return "pg_snapshot"


outbox = Table(
    "outbox",
    metadata,
    # Clients cannot set these values: the identity is GENERATED ALWAYS, and no role may insert into `xid` or
    # `recorded_at`.
    Column("position", BigInteger, Identity(always=True, cache=1), primary_key=True),
    Column("xid", XID8, nullable=False, server_default=text("pg_current_xact_id()")),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    Column("merchant_id", Text, nullable=False),
    Column("aggregate_type", Text, nullable=False),
    Column("aggregate_id", Text, nullable=False),
    Column("aggregate_version", BigInteger, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("causation_id", UUID(as_uuid=True)),
    Column("correlation_id", UUID(as_uuid=True), nullable=False),
    Column("traceparent", Text),
    # json, not jsonb: json keeps the text of the command byte for byte, so checksums over it are stable.
    Column("payload", JSON, nullable=False),
    # Added with a default: what was written before came from pods that no merchant had moved to.
    Column("directory_epoch", BigInteger, nullable=False, server_default=text("1")),
    UniqueConstraint("aggregate_type", "aggregate_id", "aggregate_version"),
    UniqueConstraint("event_id"),
    CheckConstraint("aggregate_version >= 1", name="version_positive"),
    CheckConstraint("directory_epoch >= 1", name="directory_epoch_positive"),
    Index(None, "xid"),
)

# One row. Positions up to this one were used by events that may be pruned, so they must not be used again.
outbox_floor = Table(
    "outbox_floor",
    metadata,
    Column("is_only", Boolean, primary_key=True, server_default=text("true")),
    Column("position", BigInteger, nullable=False),
    CheckConstraint("is_only", name="one_row"),
)

cuts = Table(
    "cuts",
    metadata,
    Column("cut", BigInteger, primary_key=True, autoincrement=False),
    Column("snapshot", PgSnapshot, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("registered_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("registered_by", Text, nullable=False),
    Column("partition_function", Text, nullable=False),
    Column("partition_count", Integer, nullable=False),
    Column("chunk_rows", Integer, nullable=False),
    Column("codec", Text, nullable=False),
    CheckConstraint("cut >= 1", name="cut_positive"),
    CheckConstraint("partition_count >= 1", name="partition_count_positive"),
    CheckConstraint("chunk_rows >= 1", name="chunk_rows_positive"),
)

# A database that was never restored, promoted or moved has no row: its cuts belong to the epoch of its creation.
epochs = Table(
    "epochs",
    metadata,
    Column("number", BigInteger, Identity(always=True, cache=1), primary_key=True),
    Column("epoch", Text, nullable=False),
    Column("base_cut", BigInteger, nullable=False),
    Column("base_epoch", Text),
    Column("opened_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("opened_by", Text, nullable=False),
    # Null until all copies are reset to `base_cut`; nothing is published before that.
    Column("completed_at", DateTime(timezone=True)),
    UniqueConstraint("epoch"),
    CheckConstraint("base_cut >= 0", name="base_cut_not_negative"),
    CheckConstraint("(base_cut = 0) = (base_epoch is null)", name="base_epoch_known"),
)
