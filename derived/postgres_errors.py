"""Which errors of PostgreSQL are about the row that was written.

Belongs here: that one decision, by SQLSTATE. Does not belong here: what becomes of such a row.
"""

from __future__ import annotations

import psycopg

CONTENT_CLASSES = frozenset({"22", "23", "44", "54", "P0"})
"""SQLSTATE classes of a row that cannot be stored: data (range, encoding, form), integrity, the check option of a
view, a program's limit (a row or an index row that is too large), and what a trigger raises of its own.

All others are about the server, the connection, rights or the schema. They would refuse any row, so nothing is decided
about this one, and it is tried again."""


def is_of_content(error: BaseException) -> bool:
    """Return whether an error says that one of the rows cannot be stored, whatever else is stored with it."""
    if isinstance(error, UnicodeError):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # psycopg could not even send the value
        return isinstance(error, psycopg.DataError)
    return error.sqlstate[:2] in CONTENT_CLASSES
