"""The tables of an aggregate are declared, and their guards follow."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the two tables of roots and children, and the functions that attach the guards."""
    run("0014_aggregates.sql")
