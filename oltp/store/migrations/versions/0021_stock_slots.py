"""Stock levels of hot variants are spread over slots."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Turn the table of levels into one of slots, and the levels into a view; let guards cost less."""
    run("0021_stock_slots.sql", "0021_cheaper_guards.sql")
