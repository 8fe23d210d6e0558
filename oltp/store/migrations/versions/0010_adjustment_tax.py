"""Adjustments hold the tax in their amount, and its basis."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the columns."""
    run("0010_adjustment_tax.sql")
