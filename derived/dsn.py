"""Writing about a database without showing its password.

Belongs here: the description of a DSN for messages, and removing secrets from other programs' messages.
"""

from __future__ import annotations

from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict


def described(dsn: str) -> str:
    """Return database, host and port of a DSN, without secrets."""
    parts = _parts(dsn)
    return f"database {parts.get('dbname', '?')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"


def scrub(error: Exception, dsn: str) -> str:
    """Return the first line of an error's message without the DSN or its password."""
    password = str(_parts(dsn).get("password") or "")
    text = str(error).strip().split("\n")[0]
    for secret in (dsn, password, quote(password, safe="")):
        if secret:
            text = text.replace(secret, "***")
    return text


def _parts(dsn: str) -> dict[str, object]:
    try:
        return dict(conninfo_to_dict(dsn))
    except psycopg.ProgrammingError:
        return {}
