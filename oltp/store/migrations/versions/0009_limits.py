"""The maximum of every text, amount and quantity, as constraints."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0009"
down_revision = "0008"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the constraints that all existing rows keep."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0009_limits.sql").read_bytes())
