"""What shoppers search by: a product's brand, description and attributes, and a merchant's synonyms."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add the columns and both tables."""
    run("0022_catalog_texts.sql")
