"""No position of the outbox is used twice."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the floor and the trigger."""
    run("0013_positions.sql")
