"""New orders, their status, and spread levels of stock are checked and moved by cheaper statements."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Replace the functions and the triggers of statuses."""
    run("0027_cheaper_orders.sql")
