"""Gift cards, which payments are made with and refunds are paid onto."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0015"
down_revision = "0014"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the table, what payments and refunds say of it, and what it must add up to."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0015_gift_cards.sql").read_bytes())
