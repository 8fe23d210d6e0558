"""Payments hold the released amount of their authorization."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column, and count it against the authorized amount."""
    run("0007_released_payments.sql")
