"""Calls to the payment provider that are under way."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table, and grant the rights on it."""
    run("0008_provider_calls.sql")
