"""Which PostgreSQL errors are caused by the content of the written row.

Belongs here: that decision, by SQLSTATE. Does not belong here: what happens to such a row.
"""

from __future__ import annotations

import psycopg

CONTENT_CLASSES = frozenset({"22", "23", "44", "54", "P0"})
"""SQLSTATE classes of a row that cannot be stored: data (range, encoding, format), integrity, the check option of a
view, program limits (a row or an index row that is too large), and exceptions raised by a trigger.

All other classes are about the server, the connection, rights or the schema. They would affect any row, so they say
nothing about this row, and the write is retried."""


def is_of_content(error: BaseException) -> bool:
    """Return whether an error says that one of the rows cannot be stored, independent of the other rows."""
    if isinstance(error, UnicodeError):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # psycopg could not even send the value
        return isinstance(error, psycopg.DataError)
    return error.sqlstate[:2] in CONTENT_CLASSES
