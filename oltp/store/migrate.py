"""Migrate a pod's database to the newest schema.

Belongs here: running the revisions once, also when several processes start together. Does not belong here: creating
databases and roles (`stack/servers/bootstrap.py`, or a DBA).
"""

from __future__ import annotations

from pathlib import Path

import psycopg
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from contracts.errors import StackError
from oltp.store.tables import SCHEMA

ROLES = ("tieout_app", "tieout_relay", "tieout_reader")
"""Roles that the revisions grant rights to; they must exist."""

_LOCK = 0x7469656F7574_01
"""Advisory lock of a migration in progress, so that two processes do not run the same revision."""


def migrate(owner_dsn: str) -> None:
    """Migrate the database at `owner_dsn` (libpq URI of the role that owns the tables) to the newest revision.

    A database at the newest revision stays unchanged. Raises StackError when the server cannot be reached or a role is
    missing.
    """
    driver = _connect(owner_dsn)
    # SQLAlchemy takes over the connection and closes it.
    engine = create_engine("postgresql+psycopg://", creator=lambda: driver, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        _require_roles(connection)
        connection.execute(text(f"create schema if not exists {SCHEMA}"))
        _upgrade(connection)
        # The witness's role may have been created after the revision that gives it its rights.
        if connection.execute(text("select to_regprocedure('oltp.show_to_witness()')")).scalar() is not None:
            connection.execute(text("select oltp.show_to_witness()"))


def _connect(owner_dsn: str) -> psycopg.Connection:
    try:
        return psycopg.connect(owner_dsn)
    except psycopg.OperationalError as error:
        raise StackError(f"The pod's database cannot be reached: {str(error).strip().splitlines()[0]}") from None


def _require_roles(connection: Connection) -> None:
    known = set(connection.execute(text("select rolname from pg_roles")).scalars())
    missing = [role for role in ROLES if role not in known]
    if missing:
        raise StackError(f"Roles {', '.join(missing)} do not exist; create them as login roles before migrating.")


def _upgrade(connection: Connection) -> None:
    # Import Alembic here: its import is slow, and only a migration needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
