"""A conflict of an idempotency key can name the fields that differ."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the hashes per field, and the index by which a customer's orders are found."""
    run("0018_field_hashes.sql")
