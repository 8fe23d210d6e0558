"""A tax category may have several taxes; a line has one row for each."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the tables, and the checks of their sums."""
    run("0012_several_taxes.sql")
