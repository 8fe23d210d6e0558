"""Order lines count the units that were refunded before they were shipped."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0006"
down_revision = "0005"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the column, and count withdrawn units as closed."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0006_withdrawn_units.sql").read_bytes())
