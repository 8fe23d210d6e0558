"""Events say in which epoch of the directory they were written."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the column."""
    run("0016_directory_epoch.sql")
