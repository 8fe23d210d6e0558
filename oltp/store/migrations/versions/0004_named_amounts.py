"""Refund lines say whether their amount was named."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0004"
down_revision = "0003"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the column."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0004_named_amounts.sql").read_bytes())
