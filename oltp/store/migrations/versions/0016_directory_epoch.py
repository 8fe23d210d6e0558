"""Events say in which epoch of the directory they were written."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0016"
down_revision = "0015"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the column."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0016_directory_epoch.sql").read_bytes())
