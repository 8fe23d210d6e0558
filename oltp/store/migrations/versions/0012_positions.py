"""No position of the outbox is used twice."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0012"
down_revision = "0011"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the floor and the trigger."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0012_positions.sql").read_bytes())
