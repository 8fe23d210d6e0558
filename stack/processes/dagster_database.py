"""Migrates Dagster's own database to the schema of the installed Dagster, with Dagster's own command.

With an older schema Dagster starts, and later fails where it needs the new tables or columns. Belongs here: whether a
migration is needed, and doing it once. Does not belong here: our own stores (`stack/composition/migrations.py`),
Dagster's configuration (`stack/processes/dagster_home.py`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from contracts.errors import StackError
from contracts.progress import Progress
from contracts.settings import Settings
from stack import files
from stack.processes.dagster_home import dagster_environment, write_dagster_home
from stack.settings import ROOT

LOCK = "tieout migrate dagster"
TIMEOUT_SECONDS = 900
NEWER = (
    "Dagster's database was migrated by a newer Dagster than {version}, which is installed: its pages and schedules "
    "may fail. Run `make install` for the newest version of Tieout."
)
SCRIPTS = Path("_core/storage/alembic/versions")
REVISION = re.compile(r'^revision = "(\w+)"', re.MULTILINE)
PREVIOUS_REVISION = re.compile(r'^down_revision = "(\w+)"', re.MULTILINE)


def migrate_dagster(settings: Settings, progress: Progress) -> None:
    """Migrate Dagster's database when its schema is older than the installed Dagster, and note it; else do nothing.

    A new database gets its tables here. Otherwise each of Dagster's processes would create them at its start, and all
    but the first would end with an error. A migration that fails is noted and not raised, because everything except
    Dagster works without it.
    """
    known, newest = installed_revisions()
    if stored_revision(settings.dagster_dsn) == newest:
        return
    version = importlib.metadata.version("dagster")
    with _one_at_a_time(settings.dagster_dsn):
        stored = stored_revision(settings.dagster_dsn)
        if stored == newest:
            return  # another process has migrated it meanwhile
        if stored is not None and stored not in known:
            progress.note(NEWER.format(version=version))
            return
        try:
            _migrate(settings)
        except StackError as error:
            progress.note(str(error))
            return
        if stored is not None:
            progress.note(f"Dagster's own database was migrated to Dagster {version}.")


def stored_revision(dsn: str) -> str | None:
    """Return the revision of Dagster's schema in a database; None when Dagster has not created the schema yet."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("select to_regclass('alembic_version')").fetchall() == [(None,)]:
            return None
        found = connection.execute("select version_num from alembic_version").fetchall()
    return str(found[0][0]) if found else None


def installed_revisions() -> tuple[frozenset[str], str]:
    """Return the revisions that the installed Dagster knows, and the newest; StackError when they cannot be read.

    We read the migration scripts as text, because importing Dagster would take seconds at every start.
    """
    package = importlib.util.find_spec("dagster")
    folders = [] if package is None else list(package.submodule_search_locations or ())
    scripts = [path.read_text(encoding="utf-8") for folder in folders for path in (Path(folder) / SCRIPTS).glob("*.py")]
    known = {found for text in scripts for found in REVISION.findall(text)}
    newest = known - {found for text in scripts for found in PREVIOUS_REVISION.findall(text)}
    if len(newest) != 1:
        raise StackError("The migrations of the installed Dagster cannot be read; run `make install`.")
    return frozenset(known), newest.pop()


@contextmanager
def _one_at_a_time(dsn: str) -> Iterator[None]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(hashtext(%s))", (LOCK,))
        yield


def _migrate(settings: Settings) -> None:
    write_dagster_home(settings)
    log = settings.var_dir / "logs" / "dagster-migrate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "dagster", "instance", "migrate"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env={**os.environ, **dagster_environment(settings), "PYTHONPATH": str(ROOT)},
            timeout=TIMEOUT_SECONDS,
        )
    if done.returncode:
        last = files.tail(log).rpartition("\n")[2]
        raise StackError(f"Dagster's own database could not be migrated: {last} The log is {log}.")
