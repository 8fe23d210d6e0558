"""Adjustments hold the tax in their amount, and its basis."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0010"
down_revision = "0009"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the columns."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0010_adjustment_tax.sql").read_bytes())
