"""What dbt's own connections to the lake need besides SQL: functions that read payloads of earlier schema versions.

Belongs here: registering them. Does not belong here: the functions themselves (`contracts/events/upcasting.py`).
dbt_project/profiles.yml names this module; dbt-duckdb imports it when dbt connects.
"""

from __future__ import annotations

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from contracts.events.upcasting import register


class Plugin(BasePlugin):
    """dbt-duckdb finds the class by this name."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Prepare a connection before dbt uses it."""
        register(conn)
