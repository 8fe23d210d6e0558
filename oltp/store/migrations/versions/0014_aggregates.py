"""The tables of an aggregate are declared, and their guards follow."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0014"
down_revision = "0013"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the two tables of roots and children, and the functions that attach the guards."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0014_aggregates.sql").read_bytes())
