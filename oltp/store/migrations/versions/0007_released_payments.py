"""Payments hold the released amount of their authorization."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0007"
down_revision = "0006"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the column, and count it against the authorized amount."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0007_released_payments.sql").read_bytes())
