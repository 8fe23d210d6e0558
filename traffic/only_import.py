"""The lock that allows only one import at a time, for all formats.

Belongs here: the lock. Does not belong here: the stored record of imports (`finance/imports.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from contracts.errors import ConflictError
from contracts.settings import Settings

_LOCK = "select pg_try_advisory_lock(hashtext('tieout import'))"
_UNLOCK = "select pg_advisory_unlock(hashtext('tieout import'))"


@contextmanager
def only_import(settings: Settings) -> Iterator[None]:
    """Hold the import lock, because two concurrent imports could refund the same order line twice."""
    with psycopg.connect(settings.control_dsn, autocommit=True) as connection:
        row = connection.execute(_LOCK).fetchone()
        if not row or not row[0]:
            raise ConflictError("Another import is running; wait until it has ended.")
        try:
            yield
        finally:
            # Unlock explicitly: the server ends a session some time after its client closed it, so the next import
            # could still find the lock held. A lost connection holds no lock.
            with suppress(psycopg.OperationalError):
                connection.execute(_UNLOCK)
