"""Gift cards, which payments are made with and refunds are paid onto."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the table, what payments and refunds say of it, and what it must add up to."""
    run("0015_gift_cards.sql")
