"""The first schema of a pod: tables, triggers, grants.

The SQL is in named files beside this folder. A released file is never edited; a later change is a later revision.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0001"
down_revision = None

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Create the tables, the constraints and triggers, and the grants."""
    # Use the driver's own connection: without parameters it runs whole files and does not interpret percent signs.
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    for name in ("0001_tables.sql", "0001_triggers.sql", "0001_stock.sql", "0001_grants.sql"):
        driver.execute((SQL / name).read_bytes())
