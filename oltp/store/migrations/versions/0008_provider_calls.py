"""Calls to the payment provider that are under way."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0008"
down_revision = "0007"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Create the table, and grant the rights on it."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0008_provider_calls.sql").read_bytes())
