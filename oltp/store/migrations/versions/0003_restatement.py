"""A restatement (a version that changes no field) is allowed in any status."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Replace the function that refuses transitions outside of the state machines."""
    run("0003_restatement.sql")
