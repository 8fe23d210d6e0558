"""Connections that read PostgreSQL as Arrow.

Belongs here: opening one. Does not belong here: what is read over it.

Before its first connection to a database, the driver reads all types of that database. This takes eight times as long
as connecting. So we keep the driver's database object, with these types, per DSN until the process ends. Only
PostgreSQL's built-in types are read over these connections. They have the same OIDs in every database, so the kept
object is also right for a database that replaces this one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import adbc_driver_manager
    import adbc_driver_postgresql.dbapi as adbc

DATABASES_MAX = 64


def connect_arrow(dsn: str) -> adbc.Connection:
    """Return a new connection in autocommit mode; the caller closes it.

    Raises adbc_driver_manager.OperationalError when the server does not answer or refuses the connection.
    """
    # Imported here: the driver imports pandas, which takes half a second, and few processes run a comparison.
    import adbc_driver_manager
    import adbc_driver_postgresql.dbapi as adbc

    database = _database(dsn)
    kept: Any = _Kept()
    return adbc.Connection(kept, adbc_driver_manager.AdbcConnection(database), autocommit=True)


@functools.lru_cache(DATABASES_MAX)
def _database(dsn: str) -> adbc_driver_manager.AdbcDatabase:
    # No lock: a server that hangs must not block connections to other servers. Reading the types twice does no harm.
    import adbc_driver_postgresql

    database: adbc_driver_manager.AdbcDatabase = adbc_driver_postgresql.connect(dsn)
    return database


class _Kept:
    """Stands in for the database object: a closing connection also closes its database object, which we keep."""

    def close(self) -> None:
        """Do nothing: the next connection uses the database object."""
