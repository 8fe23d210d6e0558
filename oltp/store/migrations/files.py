"""Running the SQL file of a revision.

Belongs here: how a revision runs the files of `sql/`. Does not belong here: what they change, and in which order
(`versions/`).
"""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

SQL = Path(__file__).parent / "sql"


def run(*names: str) -> None:
    """Run these files of `sql/` in the migration's transaction."""
    # Use the driver's own connection: without parameters it runs whole files and does not interpret percent signs.
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    for name in names:
        driver.execute((SQL / name).read_bytes())
