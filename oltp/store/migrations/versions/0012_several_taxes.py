"""A tax category may have several taxes; a line has one row for each."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0012"
down_revision = "0011"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the tables, and the checks of their sums."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0012_several_taxes.sql").read_bytes())
