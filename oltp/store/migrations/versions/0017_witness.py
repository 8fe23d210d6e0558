"""The write-ahead log says enough of each changed row for the pod's witness."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import op

revision = "0017"
down_revision = "0016"

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Add the publication, the replica identities, and the mark of a pruning."""
    driver: psycopg.Connection = op.get_bind().connection.driver_connection  # type: ignore[assignment]
    driver.execute((SQL / "0017_witness.sql").read_bytes())
