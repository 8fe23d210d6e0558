"""Connections that read PostgreSQL as Arrow.

Belongs here: opening one. Does not belong here: what is read over it.

Before its first connection the driver reads all types that a database has: eight times the work of connecting. What it
has learnt is kept, by DSN, as long as the process lives. Only PostgreSQL's own types are read over these connections.
They have the same numbers in every database, so what was learnt also holds for one that takes this one's place.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import adbc_driver_manager
    import adbc_driver_postgresql.dbapi as adbc

DATABASES_MAX = 64


def connect_arrow(dsn: str) -> adbc.Connection:
    """Open a connection, which commits after every statement; close it after use.

    adbc_driver_manager.OperationalError when the server does not answer or refuses.
    """
    # The driver brings pandas, half a second of every process that knows the comparisons; few run one.
    import adbc_driver_manager
    import adbc_driver_postgresql.dbapi as adbc

    database = _database(dsn)
    kept: Any = _Kept()
    return adbc.Connection(kept, adbc_driver_manager.AdbcConnection(database), autocommit=True)


@functools.lru_cache(DATABASES_MAX)
def _database(dsn: str) -> adbc_driver_manager.AdbcDatabase:
    # Without a lock: a server that hangs must keep nobody from another one. To learn the same twice does no harm.
    import adbc_driver_postgresql

    database: adbc_driver_manager.AdbcDatabase = adbc_driver_postgresql.connect(dsn)
    return database


class _Kept:
    """Stands for the database where a connection that is closed wants to close that, too."""

    def close(self) -> None:
        """Leave it open for the next connection."""
