"""The maximum of every text, amount and quantity, as constraints."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the constraints that all existing rows keep."""
    run("0009_limits.sql")
