"""Connections that a worker keeps, so that what it asks every second does not log in every second.

Belongs here: keeping and opening them anew. Does not belong here: what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 60

Connection = psycopg.Connection[Any]


@dataclass(kw_only=True)
class Connections:
    """Connections by DSN, in autocommit mode, for one thread: opened at first use, and anew when one was lost."""

    _open: dict[str, Connection] = field(default_factory=dict)

    def to(self, dsn: str) -> Connection:
        """Return the connection; raises OperationalError when the server cannot be reached."""
        known = self._open.get(dsn)
        if known is None or known.closed or known.broken:
            options = f"-c statement_timeout={STATEMENT_SECONDS}s -c synchronous_commit=on"
            known = psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_SECONDS, options=options)
            self._open[dsn] = known
        return known

    def close(self) -> None:
        """Close all."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()
