"""Brings the read models' database to the newest schema: numbered SQL files, each applied once.

Belongs here: which files were applied. Does not belong here: what is in them (`migrations/`).
"""

from __future__ import annotations

from pathlib import Path

import psycopg

from contracts.errors import StackError
from derived.dsn import described

MIGRATIONS = Path(__file__).parent / "migrations"

LOCK = "select pg_advisory_xact_lock(hashtext('read_models.migrate'))"
PREPARE = """
    create schema if not exists read_models;
    create table if not exists read_models.migrations (
        name text primary key, applied_at timestamptz not null default now())"""


def migrate(dsn: str) -> None:
    """Apply every migration that is missing, in one transaction; StackError when the database cannot be reached."""
    try:
        with psycopg.connect(dsn) as connection:
            connection.execute(LOCK)
            connection.execute(PREPARE)
            rows = connection.execute("select name from read_models.migrations").fetchall()
            applied = {row[0] for row in rows}
            for file in sorted(MIGRATIONS.glob("*.sql")):
                if file.stem not in applied:
                    connection.execute(file.read_bytes())
                    connection.execute("insert into read_models.migrations (name) values (%s)", [file.stem])
    except psycopg.OperationalError:
        raise StackError(f"The read models ({described(dsn)}) could not be reached.") from None
