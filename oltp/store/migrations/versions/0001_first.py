"""The first schema of a pod: tables, triggers, grants.

The SQL is in named files beside this folder. A released file is never edited; a later change is a later revision.
"""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, the constraints and triggers, and the grants."""
    run("0001_tables.sql", "0001_triggers.sql", "0001_stock.sql", "0001_grants.sql")
