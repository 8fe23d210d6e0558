"""The check constraints of the tables that every order writes become one function a table; nothing else is allowed."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Replace the constraints and the check of positions."""
    run("0025_cheaper_limits.sql", "0025_cheaper_positions.sql")
