"""The table of epochs: from which database the cuts come after a restore, a promotion or a move."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0002"
down_revision = "0001"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Create the table, and grant the right to record an epoch."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0002_epochs.sql").read_bytes())
