"""Calls to the provider that send unallocated money back."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Allow the kind of call."""
    run("0028_giving_back.sql")
