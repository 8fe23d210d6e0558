"""Dagster's own database: migrated when the installed Dagster is newer, once, in one sentence; else left alone."""

from __future__ import annotations

import io
import threading
from importlib.metadata import version
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance
from dagster._core.storage.sql import run_alembic_downgrade
from dagster_postgres.utils import create_pg_connection, pg_alembic_config
from rich.console import Console
from sqlalchemy import create_engine

from cli.console import ConsoleProgress
from contracts.settings import Settings
from stack.processes import dagster_database
from stack.processes.dagster_database import installed_revisions, migrate_dagster, stored_revision
from stack.processes.dagster_home import write_dagster_home

OLDER = "6b7fb194ff9c"
"""Before concurrency_limits had the column using_default_limit."""
COLUMN = """select count(*) from information_schema.columns
            where table_name = 'concurrency_limits' and column_name = 'using_default_limit'"""


def columns(settings: Settings) -> int:
    with psycopg.connect(settings.dagster_dsn) as connection:
        return int(connection.execute(COLUMN).fetchall()[0][0])


def said(settings: Settings) -> str:
    output = io.StringIO()
    migrate_dagster(settings, ConsoleProgress(console=Console(file=output, width=200)))
    return output.getvalue()


def make_older(settings: Settings) -> None:
    import dagster_postgres.run_storage.run_storage as storage

    with DagsterInstance.from_config(str(write_dagster_home(settings))):
        pass
    engine = create_engine(settings.dagster_dsn.replace("postgresql://", "postgresql+psycopg2://"))
    with create_pg_connection(engine) as connection:
        run_alembic_downgrade(pg_alembic_config(storage.__file__), connection, OLDER)
    engine.dispose()


def said_to_two(settings: Settings) -> list[str]:
    """Start twice at once; return what each said."""
    told: list[str] = []
    starts = [threading.Thread(target=lambda: told.append(said(settings))) for _ in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    return told


def test_a_new_database_gets_its_tables_once_without_a_word(settings: Settings) -> None:
    assert stored_revision(settings.dagster_dsn) is None
    assert said_to_two(settings) == ["", ""]
    assert (columns(settings), stored_revision(settings.dagster_dsn)) == (1, installed_revisions()[1])


def test_an_older_database_is_migrated_once_and_said_in_one_line(settings: Settings) -> None:
    make_older(settings)
    assert (columns(settings), stored_revision(settings.dagster_dsn)) == (0, OLDER)

    assert sorted(said_to_two(settings)) == [
        "",
        f"Dagster's own database was migrated to Dagster {version('dagster')}.\n",
    ]
    assert (columns(settings), stored_revision(settings.dagster_dsn)) == (1, installed_revisions()[1])
    assert said(settings) == ""


def test_what_cannot_be_migrated_is_said_and_changes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with psycopg.connect(settings.dagster_dsn) as connection:
        connection.execute("create table alembic_version (version_num text)")
        connection.execute("insert into alembic_version values ('ffffffffffff')")
    assert "was migrated by a newer Dagster" in said(settings)
    assert stored_revision(settings.dagster_dsn) == "ffffffffffff"

    with psycopg.connect(settings.dagster_dsn) as connection:
        connection.execute("update alembic_version set version_num = %s", [OLDER])
    (tmp_path / "dagster").mkdir()
    monkeypatch.setattr(dagster_database, "write_dagster_home", lambda settings: tmp_path)
    sentence = said(settings)
    assert sentence.startswith("Dagster's own database could not be migrated: ") and "Traceback" not in sentence
    assert stored_revision(settings.dagster_dsn) == OLDER
