"""Roles without the right to lock rows that others need, cuts with a checked epoch, and keys that can be pruned."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Replace rights by functions, check the epoch of cuts, and add the function and index for pruning keys."""
    run("0005_deletions.sql", "0005_narrower_rights.sql")
