"""No position of the outbox is used twice."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0013"
down_revision = "0012"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the floor and the trigger."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0013_positions.sql").read_bytes())
