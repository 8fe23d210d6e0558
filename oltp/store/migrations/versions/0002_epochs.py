"""The table of epochs: from which database the cuts come after a restore, a promotion or a move."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table, and grant the right to record an epoch."""
    run("0002_epochs.sql")
