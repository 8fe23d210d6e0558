"""Refund lines say whether their amount was named."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    run("0004_named_amounts.sql")
