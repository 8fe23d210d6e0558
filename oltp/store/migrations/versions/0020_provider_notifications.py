"""Notifications of the payment provider, and disputes about payments."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Create the tables, and grant the rights on them."""
    run("0020_provider_notifications.sql", "0020_disputes.sql")
