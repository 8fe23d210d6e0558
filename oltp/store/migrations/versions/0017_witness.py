"""The write-ahead log says enough of each changed row for the pod's witness."""

from __future__ import annotations

from oltp.store.migrations.files import run

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the publication, the replica identities, and the mark of a pruning."""
    run("0017_witness.sql")
