"""Order lines count the units that were refunded before they were shipped."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column, and count withdrawn units as closed."""
    run("0006_withdrawn_units.sql")
