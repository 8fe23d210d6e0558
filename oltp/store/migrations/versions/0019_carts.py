"""Carts, and the orders that they became."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add both tables."""
    run("0019_carts.sql")
