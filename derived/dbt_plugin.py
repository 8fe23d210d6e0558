"""What dbt's own connections to the lake know besides SQL: how payloads of earlier schema versions are read.

Belongs here: that. Does not belong here: the functions themselves (`contracts/events/upcasting.py`). The name is in
dbt_project/profiles.yml; dbt-duckdb imports it when dbt connects.
"""

from __future__ import annotations

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from contracts.events.upcasting import register


class Plugin(BasePlugin):
    """Found by its name."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Prepare a connection before dbt uses it."""
        register(conn)
