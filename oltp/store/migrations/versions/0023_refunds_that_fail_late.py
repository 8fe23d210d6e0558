"""Refunds that fail after they were completed: the moment of failing, and the step to it."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add the column, its conditions and the step."""
    run("0023_refunds_that_fail_late.sql")
