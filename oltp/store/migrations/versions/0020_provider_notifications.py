"""Notifications of the payment provider."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Create the table, and grant the rights on it."""
    run("0020_provider_notifications.sql")
