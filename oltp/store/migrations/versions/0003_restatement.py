"""A restatement (a version that changes no field) is allowed in any status."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0003"
down_revision = "0002"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Replace the function that refuses transitions outside of the state machines."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0003_restatement.sql").read_bytes())
