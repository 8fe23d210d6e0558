"""Roles without the right to lock rows that others need, cuts with a checked epoch, and keys that can be pruned."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0005"
down_revision = "0004"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Replace rights by functions, check the epoch of cuts, and add the function and index for pruning keys."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    for name in ("0005_deletions.sql", "0005_narrower_rights.sql"):
        driver.execute((SQL / name).read_bytes())
