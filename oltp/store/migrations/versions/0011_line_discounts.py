"""A discount may name the order line that it reduces."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column and its check."""
    run("0011_line_discounts.sql")
