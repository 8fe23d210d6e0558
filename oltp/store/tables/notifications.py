"""Notifications of the payment provider: stored as they came, each once by the provider's id."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, Table, Text, func, text

from oltp.domain.notifications import DISPUTE_KINDS, NotificationState
from oltp.store.tables.columns import known, merchant_column, not_negative, text_column
from oltp.store.tables.metadata import metadata

provider_notifications = Table(
    "provider_notifications",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    merchant_column(),
    text_column("kind"),
    text_column("provider_key", nullable=True),
    text_column("authorization_reference", nullable=True),
    # As it was sent: what we do not read of it may tell a person more.
    text_column("body"),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("reason", Text, nullable=False, server_default=text("''")),
    # The person who decided about a parked one, or who said by hand what the provider says.
    text_column("decided_by", nullable=True),
    Column("attempts", BigInteger, nullable=False, server_default=text("0")),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("tried_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    known("state", NotificationState),
    *not_negative("attempts"),
    Index(
        "provider_notifications_open_idx",
        "state",
        "tried_at",
        postgresql_where=text("state in ('pending', 'parked')"),
    ),
    Index("provider_notifications_key_idx", "merchant_id", "provider_key"),
    Index("provider_notifications_received_at_idx", "received_at", postgresql_using="brin"),
    Index(
        "provider_notifications_disputes_idx",
        "merchant_id",
        "authorization_reference",
        postgresql_where=text(f"kind in ({', '.join(repr(str(kind)) for kind in DISPUTE_KINDS)})"),
    ),
)
