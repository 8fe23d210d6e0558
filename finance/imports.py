"""Which imports were begun and which have ended: a month cannot be closed while its files may be half booked.

An import writes a row before it books anything, and holds an advisory lock while it runs. If it is killed, its row
stays without an end. Importing the same files again completes it, or people give it up, with a reason.

Belongs here: schema `finance`, table `imports`. Does not belong here: importing (`traffic/`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row

from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.text import counted

TABLES = """
create schema if not exists finance;
create table if not exists finance.imports (
    import_id integer generated always as identity primary key,
    started_at timestamptz not null default clock_timestamp(),
    started_by text not null,
    files text[] not null,
    checksums text[] not null,
    unfinished bigint not null default 0,
    ended_at timestamptz,
    outcome text not null default ''
);
comment on table finance.imports is 'One row per import of files; without ended_at it runs, or was torn.';
"""
LOCK = 0x696D7074
"""The upper half of the key of the advisory lock that a running import holds; the lower half is the import's id."""

BEGIN = "insert into finance.imports (started_by, files, checksums) values (%s, %s, %s) returning import_id"
END = """
update finance.imports
set unfinished = %(unfinished)s, outcome = %(outcome)s,
    ended_at = case when %(unfinished)s = 0 then clock_timestamp() end
where import_id = %(import_id)s
"""
# A file counts as the same if its name or its checksum is the same: it may have been corrected, or moved.
CONTINUED = """
update finance.imports as earlier
set ended_at = clock_timestamp(), outcome = 'continued by import ' || present.import_id
from finance.imports as present
where present.import_id = %(import_id)s and earlier.import_id < present.import_id and earlier.ended_at is null
  and (earlier.files <@ present.files or earlier.checksums <@ present.checksums)
  and not exists (select from pg_locks as held where {held})
"""
HELD = """
held.locktype = 'advisory' and held.objsubid = 1 and held.classid = %(lock)s and held.objid = {alias}.import_id
and held.database = (select oid from pg_database where datname = current_database())
"""
UNENDED = f"""
select import_id, started_at, started_by, files, unfinished, exists (
    select from pg_locks as held where {HELD.format(alias="one")}
) as is_running
from finance.imports as one where ended_at is null order by import_id
"""
GIVE_UP = """
update finance.imports set ended_at = clock_timestamp(), outcome = %(outcome)s
where import_id = %(import_id)s and ended_at is null
"""
REFUSALS = (InputError, ConflictError)
"""With these errors files are refused before anything of them is booked."""


@dataclass(frozen=True, kw_only=True)
class OpenImport:
    """An import that has not ended."""

    import_id: int
    started_at: datetime
    started_by: str
    files: Sequence[str]
    unfinished: int
    """Number of orders and credit notes for which the books refused a step."""
    is_running: bool

    @property
    def sentence(self) -> str:
        """Why it is open, and how to end it."""
        what = f"import {self.import_id} of {', '.join(self.files)}, begun {self.started_at:%Y-%m-%d %H:%M} UTC"
        if self.is_running:
            return f"{what}, is running; wait until it has ended, then run `tieout reconcile`"
        again = f"import the files again, or give it up with `tieout imports give-up {self.import_id}`"
        if self.unfinished:
            left = counted(self.unfinished, "order or credit note", "orders or credit notes")
            return f"{what}, left {left} unfinished; {again}"
        return f"{what}, was interrupted; {again}"

    def as_json(self) -> dict[str, Any]:
        """Return the import as values that JSON can hold."""
        return {**vars(self), "started_at": self.started_at.isoformat(), "files": list(self.files)}


@dataclass(kw_only=True)
class RecordedImport:
    """An import in progress; the code that runs it sets `unfinished` at the end."""

    import_id: int
    unfinished: int = 0


def migrate(control_dsn: str) -> None:
    """Create the table in the control database, if it does not exist."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(TABLES)


def lock_key(import_id: int) -> int:
    """Return the key of the advisory lock that an import holds while it runs."""
    return LOCK << 32 | import_id


@contextmanager
def recorded_import(control_dsn: str, paths: Sequence[Path], *, by: str) -> Iterator[RecordedImport]:
    """Record that an import runs until the block ends; after an error or a kill it stays open.

    A file that is refused before anything of it is booked leaves nothing open.
    """
    with psycopg.connect(control_dsn, autocommit=True) as connection:
        files, checksums = [path.name for path in paths], [_checksum(path) for path in paths]
        with connection.transaction():
            found = connection.execute(BEGIN, (by, files, checksums)).fetchone()
            assert found is not None
            connection.execute("select pg_advisory_lock(%s)", (lock_key(found[0]),))
        made = RecordedImport(import_id=found[0])
        try:
            yield made
        except REFUSALS as error:
            # A subclass may be raised after something was booked, so only these exact types end the import.
            if type(error) in REFUSALS:
                _end(connection, made, "refused before anything was booked")
            raise
        _end(connection, made, "" if made.unfinished else "complete")
        held = HELD.format(alias="earlier")
        connection.execute(CONTINUED.format(held=held), {"import_id": made.import_id, "lock": LOCK})


def unended(connection: psycopg.Connection[Any]) -> list[OpenImport]:
    """Return the imports that have not ended, in order of their ids."""
    return connection.cursor(row_factory=class_row(OpenImport)).execute(UNENDED, {"lock": LOCK}).fetchall()


def unended_imports(control_dsn: str) -> list[OpenImport]:
    """Return the imports that have not ended, in order of their ids; empty if the table does not exist."""
    with psycopg.connect(control_dsn) as connection:
        known = connection.execute("select to_regclass('finance.imports')").fetchone()
        return unended(connection) if known and known[0] else []


def hold_imports(connection: psycopg.Connection[Any]) -> None:
    """Lock the table so that no import can begin until the connection's transaction ends."""
    connection.execute("lock table finance.imports in share row exclusive mode")


def open_import(control_dsn: str, import_id: int) -> OpenImport:
    """Return an interrupted import; ConflictError while it runs, NotFoundError if no import of this id is open."""
    with psycopg.connect(control_dsn) as connection:
        return _torn(connection, import_id)


def give_up(control_dsn: str, import_id: int, *, reason: str, by: str) -> None:
    """End an import that nobody will complete.

    Raises InputError without a reason, ConflictError while it runs, NotFoundError if no import of this id is open.
    """
    if not reason.strip():
        raise InputError("Say with --reason why the import is given up; it is kept.")
    with psycopg.connect(control_dsn) as connection:
        hold_imports(connection)
        _torn(connection, import_id)
        connection.execute(GIVE_UP, {"import_id": import_id, "outcome": f"given up by {by}: {reason}"})


def _torn(connection: psycopg.Connection[Any], import_id: int) -> OpenImport:
    found = [one for one in unended(connection) if one.import_id == import_id]
    if not found:
        raise NotFoundError(f"No import {import_id} is open; see `tieout imports list`.")
    if found[0].is_running:
        raise ConflictError(f"Import {import_id} is running; stop it first.")
    return found[0]


def _end(connection: psycopg.Connection[Any], made: RecordedImport, outcome: str) -> None:
    connection.execute(END, {"import_id": made.import_id, "unfinished": made.unfinished, "outcome": outcome})


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        # The import itself reads the file and reports what is wrong with it.
        return f"unread {path.name}"
