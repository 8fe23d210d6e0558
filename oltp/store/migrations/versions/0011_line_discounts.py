"""A discount may name the order line that it reduces."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0011"
down_revision = "0010"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the column and its check."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0011_line_discounts.sql").read_bytes())
