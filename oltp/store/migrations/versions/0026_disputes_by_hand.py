"""Disputes that a person has recorded: found by merchant, and kept with who said so."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Add the indexes, and let pruning keep what a person has said."""
    run("0026_disputes_by_hand.sql")
