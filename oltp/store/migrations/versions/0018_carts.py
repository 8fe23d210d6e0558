"""Carts, and the orders that they became."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add both tables."""
    run("0018_carts.sql")
