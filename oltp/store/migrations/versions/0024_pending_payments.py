"""Payments whose money comes days later, and how long merchants wait for it."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the columns, the table, the conditions and the steps."""
    run("0024_pending_payments.sql")
