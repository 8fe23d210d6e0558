"""One import at a time, whatever its format.

Belongs here: the lock. Does not belong here: the record of imports, which outlives them (`finance/imports.py`).
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
    """Hold the import lock: two imports at once could give the same order line back twice."""
    with psycopg.connect(settings.control_dsn, autocommit=True) as connection:
        row = connection.execute(_LOCK).fetchone()
        if not row or not row[0]:
            raise ConflictError("Another import is running; wait until it has ended.")
        try:
            yield
        finally:
            # The server ends a session only some time after its client closed it; an import right after this one would
            # find the lock held. A connection that is lost has no lock any more.
            with suppress(psycopg.OperationalError):
                connection.execute(_UNLOCK)
