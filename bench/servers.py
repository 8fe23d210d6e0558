"""Servers of a measurement's own, in a folder that is deleted afterwards.

Belongs here: starting and stopping them. Does not belong here: what a measurement creates in them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.servers.bootstrap import create_database
from stack.servers.postgres import EmbeddedPostgres
from stack.servers.valkey import EmbeddedValkey


@contextmanager
def own_postgres(*databases: str) -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """Give a PostgreSQL server with fsync and these databases of its superuser, and the folder in which it is."""
    with tempfile.TemporaryDirectory(prefix="tieout-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # When root runs the benchmark, the account of PostgreSQL needs access through this folder.
        folder.chmod(0o711)
        server = EmbeddedPostgres(name="bench", folder=folder / "postgres", log=folder / "postgres.log")
        try:
            server.start()
            for database in databases:
                create_database(server.superuser_dsn(), database, owner="postgres")
            yield server, folder
        finally:
            server.stop()


@contextmanager
def own_valkey(folder: Path) -> Iterator[EmbeddedValkey]:
    """Give a Valkey server in this folder."""
    server = EmbeddedValkey(name="bench", folder=folder / "valkey", log=folder / "valkey.log")
    try:
        server.start()
        yield server
    finally:
        server.stop()
