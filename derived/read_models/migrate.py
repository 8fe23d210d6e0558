"""Migrating the read models' database: numbered SQL files, applied once, and again if one of their tables is missing.

Belongs here: which files were applied. Does not belong here: what is in them (`migrations/`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg

from contracts.announcements import ANNOUNCE_VIEW, VIEW_WRITER
from contracts.errors import StackError
from contracts.ownership import READ_MODELS, SERVED_TABLES
from derived.dsn import described

MIGRATIONS = Path(__file__).parent / "migrations"

LOCK = "select pg_advisory_xact_lock(hashtext('read_models.migrate'))"
PREPARE = """
    create schema if not exists read_models;
    create table if not exists read_models.migrations (
        name text primary key, applied_at timestamptz not null default now())"""
APPLIED = "insert into read_models.migrations (name) values (%s) on conflict do nothing"
ATTACH = """
    select read_models.attach_sums(part_table) from read_models.sum_parts where (
        select count(*) from pg_trigger
        where tgrelid = format('read_models.%I', part_table)::regclass and tgname like 'sums_of_%'
          and tgenabled in ('O', 'A')
    ) < 4"""
"""A table that is added up has four triggers; without one its sums would be wrong again after each repair.

A disabled trigger ('D') counts as missing, and so does one that fires only while changes are replicated ('R').
Attaching it again enables it.
"""
SHOW = "select read_models.show_to_witness(%s::text[])"
"""Again each time: the witness's role may be newer than the function, and a table may have been created again."""
KEPT = ("parked_events", "positions", "skipped_events")
CREATES = re.compile(r"^create table if not exists (\S+)", re.MULTILINE)


def migrate(dsn: str) -> None:
    """Apply every missing migration in one transaction; StackError if the database cannot be reached.

    A migration also counts as missing if somebody dropped one of its tables. Then the later ones are applied again,
    too, because they may change that table. All migrations can be applied again.
    """
    try:
        with psycopg.connect(dsn) as connection:
            connection.execute(LOCK)
            connection.execute(PREPARE)
            connection.execute(ANNOUNCE_VIEW, [VIEW_WRITER, [copy.name for copy in READ_MODELS]])
            rows = connection.execute("select name from read_models.migrations").fetchall()
            applied, is_again = {row[0] for row in rows}, False
            for file in sorted(MIGRATIONS.glob("*.sql")):
                text = file.read_text(encoding="utf-8")
                is_again = is_again or file.stem not in applied or _lacks_table(connection, text)
                if is_again:
                    connection.execute(file.read_bytes())
                    connection.execute(APPLIED, [file.stem])
            connection.execute(ATTACH)
            connection.execute(SHOW, [[*SERVED_TABLES, *KEPT]])
    except psycopg.OperationalError:
        raise StackError(f"The read models ({described(dsn)}) could not be reached.") from None


def _lacks_table(connection: psycopg.Connection[Any], migration: str) -> bool:
    query = "select 1 from unnest(%s::text[]) as created (name) where to_regclass(created.name) is null"
    return connection.execute(query, [CREATES.findall(migration)]).fetchone() is not None
