"""The supported versions of PostgreSQL, and a check of the servers' versions before the first migration.

Belongs here: the versions, and the error sentence for other versions. Does not belong here: starting a server
(`stack/servers/postgres.py`), what is in its databases (each store's migration).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psycopg
from psycopg.conninfo import conninfo_to_dict

from contracts.errors import StackError
from contracts.settings import Settings
from derived.dsn import described

OLDEST, NEWEST = 15, 18
"""The oldest and the newest supported major version of PostgreSQL."""

CONNECT_SECONDS = 10


def check_versions(settings: Settings) -> None:
    """Raise StackError, one sentence, when a server of these settings has an unsupported version.

    We skip a server that does not answer: the step that needs it reports that error.
    """
    for dsn in _one_of_each_server(settings):
        try:
            with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
                number = connection.info.server_version
        except psycopg.Error:
            continue
        if problem := version_problem(number):
            raise StackError(f"The server of {described(dsn)} {problem}")


def version_problem(number: int) -> str | None:
    """Return what is wrong with a server's version number (libpq's, e.g. 150018 for 15.18); None if it is supported."""
    major, minor = divmod(number, 10_000)
    if OLDEST <= major <= NEWEST:
        return None
    remedy = "upgrade it" if major < OLDEST else "use one of these"
    return f"is PostgreSQL {major}.{minor}; Tieout works with {OLDEST} to {NEWEST}: {remedy}. Nothing was changed."


def _one_of_each_server(settings: Settings) -> Iterable[str]:
    others = (settings.control_dsn, settings.catalog_dsn, settings.read_models_dsn, settings.dagster_dsn)
    by_server: dict[object, str] = {}
    for dsn in (*(pod.owner_dsn for pod in settings.pods), *others):
        with suppress(psycopg.ProgrammingError):
            parts = conninfo_to_dict(dsn)
            # A DSN that is withheld from this process has no host.
            if parts.get("host"):
                by_server.setdefault((parts["host"], parts.get("port")), dsn)
    return by_server.values()
