"""Error sentences for failures of servers and disks during a command: full, no connection left, gone, too slow.

Belongs here: distinguishing such an error from a fault of the program, which keeps its traceback. Does not belong here:
errors that Tieout raises on purpose (`contracts/errors.py`).
"""

from __future__ import annotations

import errno
import re
from contextlib import suppress

from contracts.errors import TieoutError
from contracts.sequences import set_back

FULL = "No space left on device"
NO_CONNECTION_LEFT = (
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "couldn't get a connection",
)

DISK_FULL = "A disk is full ({reason}). Make room; what was committed is kept, and everything else can be done again."
CONNECTIONS = (
    "A PostgreSQL server has no connection left ({reason}). Try again when others have ended, or raise its "
    "max_connections."
)
STOPPED = "A server did not do what it was asked: {reason}. Look with `tieout status`, then try again."
NOT_WRITTEN = "A file could not be read or written: {reason}."
NOT_ALLOWED = (
    "{filename} may not be read or written by this account; run Tieout as the one that owns it, or name another folder "
    "for all its files in TIEOUT_VAR_DIR."
)


def outage(error: BaseException) -> str | None:
    """Return the sentence for an error of a server or a disk, without passwords; None for all other errors."""
    if isinstance(error, OSError):
        named = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        if isinstance(error, PermissionError) and error.filename:
            return NOT_ALLOWED.format(filename=error.filename)
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return DISK_FULL.format(reason=named) if is_full else NOT_WRITTEN.format(reason=named)
    if sentence := _of_a_sequence(error):
        return sentence
    if not _is_of_a_server(error):
        return None
    reason = _scrubbed(str(getattr(error, "orig", None) or error))
    if FULL in reason:
        return DISK_FULL.format(reason=reason)
    if any(words in reason for words in NO_CONNECTION_LEFT):
        return CONNECTIONS.format(reason=reason)
    return STOPPED.format(reason=reason)


def _of_a_sequence(error: BaseException) -> str | None:
    """Return the sentence for a number that a sequence of the database has given twice; None for other errors."""
    import psycopg

    if not isinstance(error, psycopg.errors.UniqueViolation) or not (error.diag.constraint_name or "").endswith(
        "_pkey"
    ):
        return None
    found = re.match(r"Key \((\w+)\)=\(\d+\) already exists", error.diag.message_detail or "")
    table = f"{error.diag.schema_name}.{error.diag.table_name}"
    return set_back(table, found[1]) if found else None


def _is_of_a_server(error: BaseException) -> bool:
    import duckdb
    import psycopg
    import sqlalchemy.exc

    kinds = (
        psycopg.OperationalError,
        # A server that became read-only, and a role that lost its rights.
        psycopg.errors.ReadOnlySqlTransaction,
        psycopg.errors.InsufficientPrivilege,
        sqlalchemy.exc.OperationalError,
        duckdb.OperationalError,
    )
    return isinstance(error, kinds) or isinstance(getattr(error, "orig", None), kinds)


def _scrubbed(text: str) -> str:
    """Return the first line of a server's message, without passwords and without the full stop."""
    from stack.scrubbing import scrubber
    from stack.settings import load_settings

    line = text.strip().partition("\n")[0].rstrip(". ")
    with suppress(TieoutError, OSError):
        line = scrubber(load_settings())(line)
    return line
