"""The read models as the interface asks them, and whether one holds a write already.

Belongs here: connections to their database, and waiting for a copy. Does not belong here: what a read model holds
(`derived/read_models/`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from api.copy_headers import copy_headers
from api.pods import connection_of
from api.positions import Position
from contracts.errors import PropagationError
from derived.dsn import described
from derived.read_models.answers import Freshness
from oltp.commands.execute import CommandPod

WAIT_SECONDS = 0.5
"""How long a read waits for a copy; after that it is answered from OLTP."""
LOOK_SECONDS = 0.02
CONNECTIONS_MAX = 4
CONNECT_SECONDS_MAX = 3.0


_APPLIED = "select min(cut) from read_models.positions where projection = %s and pod = %s"
_SHOWS = "select pg_visible_in_snapshot(%s::text::xid8, snapshot) from oltp.cuts where cut = %s"


class ReadModels:
    """The database of the read models. Thread-safe. Close it at the end."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connections: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
            dsn,
            min_size=0,
            max_size=CONNECTIONS_MAX,
            timeout=CONNECT_SECONDS_MAX,
            configure=_read_only,
            open=True,
            name="api-read-models",
        )

    @contextmanager
    def snapshot(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection in one read-only snapshot; PropagationError when the database does not answer."""
        try:
            with self._connections.connection() as connection:
                yield connection
        except (PoolTimeout, psycopg.OperationalError):
            where = described(self._dsn)
            raise PropagationError(f"The read models ({where}) could not be reached; ask again later.") from None

    def has(self, projection: str, pod: CommandPod, position: Position, *, seconds: float = WAIT_SECONDS) -> bool:
        """Return whether a read model holds a write of this pod, after waiting for it for at most `seconds`."""
        until = time.monotonic() + seconds
        while not self._shows(projection, pod, position):
            if time.monotonic() + LOOK_SECONDS > until:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _shows(self, projection: str, pod: CommandPod, position: Position) -> bool:
        with self.snapshot() as connection:
            row = connection.execute(_APPLIED, (projection, pod.pod)).fetchone()
        if row is None or row[0] is None:
            return False
        return shows(pod, position, row[0])


def view_headers(projection: str, age: Freshness, pod: str) -> dict[str, str]:
    """Return the headers of an answer from a read model: where it comes from, and its age in the merchant's pod."""
    for one in age.pods:
        if one.pod == pod:
            return copy_headers(projection, pod=pod, cut=one.applied_cut, age_seconds=one.age_seconds)
    return copy_headers(projection)


def shows(pod: CommandPod, position: Position, cut: int) -> bool:
    """Return whether a cut of the pod holds a write of the same pod."""
    with connection_of(pod) as connection:
        shown = connection.execute(_SHOWS, (str(position.xid), cut)).fetchone()
    return shown is not None and bool(shown[0])


def _read_only(connection: psycopg.Connection[Any]) -> None:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
