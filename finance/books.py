"""The books in the control database: which periods are closed, and the files of their reports made at closing.

Rows of these tables are never changed or deleted: triggers refuse it. Only the transaction that closes a period can add
its files. The owner of the tables could drop the triggers; the backup of the control database would show that.

Belongs here: schema `finance`. Does not belong here: whether a period may be closed (`finance/closing.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from contracts.errors import ConflictError, NotFoundError, StackError
from finance.content_hash import sha256
from finance.periods import Close, Period, parse_period

TABLES = """
create schema if not exists finance;
create table if not exists finance.periods (
    period text primary key check (period ~ '^[1-9][0-9]{3}-(0[1-9]|1[0-2])$'),
    closed_at timestamptz not null,
    closed_by text not null check (closed_by <> ''),
    cuts jsonb not null,
    build_id text not null,
    certificate text not null,
    closed_in xid8 not null default pg_current_xact_id()
);
comment on table finance.periods is
    'One row per closed month: the cut of every pod up to which events count, and what was proven. Never changed.';
create table if not exists finance.artefacts (
    period text not null references finance.periods (period),
    report text not null,
    format text not null check (format in ('json', 'csv', 'certificate.json', 'xlsx', 'html')),
    sha256 text not null,
    content bytea not null,
    primary key (period, report, format),
    check (sha256 = encode(sha256(content), 'hex'))
);
comment on table finance.artefacts is 'The reports of closed months, byte for byte as they were made. Never changed.';

create or replace function finance.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'finance.% is never changed: % is refused; book a correction in the open period',
        tg_table_name, lower(tg_op) using errcode = 'restrict_violation';
end $$;
create or replace trigger periods_are_final before update or delete or truncate on finance.periods
    for each statement execute function finance.refuse_change();
create or replace trigger artefacts_are_final before update or delete or truncate on finance.artefacts
    for each statement execute function finance.refuse_change();

create or replace function finance.refuse_earlier_period() returns trigger language plpgsql as $$
declare
    latest finance.periods;
begin
    new.closed_in := pg_current_xact_id();
    select * into latest from finance.periods order by period desc limit 1;
    if found and (
        new.period <= latest.period
        or exists (
            select from jsonb_each_text(latest.cuts) as before
            where before.value::bigint > coalesce((new.cuts ->> before.key)::bigint, 0)
        )
    ) then
        raise exception 'period % and its cuts must come after those of %, the last closed one',
            new.period, latest.period using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create or replace trigger periods_grow before insert on finance.periods
    for each row execute function finance.refuse_earlier_period();

create or replace function finance.refuse_later_artefact() returns trigger language plpgsql as $$
begin
    if not exists (
        select from finance.periods as closed
        where closed.period = new.period and closed.closed_in = pg_current_xact_id()
    ) then
        raise exception 'a report of % can be stored only when the period is closed', new.period
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create or replace trigger artefacts_come_with_their_period before insert on finance.artefacts
    for each row execute function finance.refuse_later_artefact();
"""
LOCK = 0x66696E616E6365
"""Key of the advisory lock that migration and closing take."""

UNANSWERED = (
    "The reply to the last step was lost, so the month may be closed or open: `tieout periods` says it as soon as the "
    "database answers."
)

PERIODS = "select period, closed_at, closed_by, cuts, build_id, certificate from finance.periods order by period"
INSERT_PERIOD = """
insert into finance.periods (period, closed_at, closed_by, cuts, build_id, certificate)
values (%(period)s, %(closed_at)s, %(closed_by)s, %(cuts)s, %(build_id)s, %(certificate)s)
"""
INSERT_ARTEFACT = """
insert into finance.artefacts (period, report, format, sha256, content)
values (%(period)s, %(report)s, %(format)s, %(sha256)s, %(content)s)
"""
ARTEFACT = """
select content from finance.artefacts where period = %(period)s and report = %(report)s and format = %(format)s
"""
STORED = """
select report, format, sha256, content from finance.artefacts where period = %(period)s order by report, format
"""
BY_SHA256 = "select period, report, format from finance.artefacts where sha256 = %(sha256)s"


@dataclass(frozen=True, kw_only=True)
class ClosedPeriod:
    """A closed month."""

    period: Period
    closed_at: datetime
    closed_by: str
    cuts: Mapping[str, int]
    build_id: str
    certificate: str
    """Canonical JSON: the evidence, and the checksums of every report and file."""

    @property
    def close(self) -> Close:
        """The last day and the cut vector that this closing fixed."""
        return Close(period=self.period, cuts=self.cuts)

    @property
    def stated(self) -> dict[str, Any]:
        """The certificate as values: conclusion, epochs, and the checksums per report."""
        value: dict[str, Any] = json.loads(self.certificate)
        return value

    @property
    def epochs(self) -> Mapping[str, str | None]:
        """Pod -> the epoch of its cut."""
        found: Mapping[str, str | None] = self.stated.get("epochs", {})
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the closed period as values that JSON can hold."""
        return {
            "period": str(self.period),
            "closed_at": self.closed_at.isoformat(),
            "closed_by": self.closed_by,
            "cuts": dict(self.cuts),
            "build_id": self.build_id,
            "certificate": self.stated,
        }


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """One report of a period as one file."""

    report: str
    format: str
    content: bytes

    @property
    def sha256(self) -> str:
        """The file's checksum."""
        return sha256(self.content)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A stored file, and the checksum that was stored with it."""

    artefact: Artefact
    stated_sha256: str


def migrate(control_dsn: str) -> None:
    """Create the tables of the books in the control database, if they do not exist."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(TABLES)


def closed_periods(control_dsn: str) -> list[ClosedPeriod]:
    """Return all closed periods, in order; empty if none was ever closed."""
    with _control(control_dsn) as connection:
        known = connection.execute("select to_regclass('finance.periods') as known").fetchone()
        if known is None or known["known"] is None:
            return []
        rows = connection.execute(PERIODS).fetchall()
    return [ClosedPeriod(**{**row, "period": parse_period(row["period"])}) for row in rows]


@contextmanager
def closing_alone(control_dsn: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """Hold the lock of closing, so that one period is closed at a time; yield the transaction to write in.

    Raises ConflictError if another closing holds the lock, StackError if the database cannot be reached.
    """
    is_written = False
    try:
        with _control(control_dsn) as connection:
            found = connection.execute("select pg_try_advisory_xact_lock(%s) as locked", (LOCK,)).fetchone()
            if found is None or not found["locked"]:
                raise ConflictError("Another period is being closed at this moment; try again when that is done.")
            yield connection
            is_written = True
    except StackError as error:
        if not is_written:
            raise
        raise StackError(f"{error} {UNANSWERED}") from None


def write_period(
    connection: psycopg.Connection[dict[str, Any]], closed: ClosedPeriod, artefacts: Sequence[Artefact]
) -> None:
    """Write a closed period and its files; after the caller's commit nothing of it can change."""
    connection.execute(
        INSERT_PERIOD,
        {
            "period": str(closed.period),
            "closed_at": closed.closed_at,
            "closed_by": closed.closed_by,
            "cuts": Jsonb(dict(closed.cuts)),
            "build_id": closed.build_id,
            "certificate": closed.certificate,
        },
    )
    for artefact in artefacts:
        connection.execute(
            INSERT_ARTEFACT,
            {
                "period": str(closed.period),
                "report": artefact.report,
                "format": artefact.format,
                "sha256": artefact.sha256,
                "content": artefact.content,
            },
        )


def read_artefact(control_dsn: str, period: Period, report: str, file_format: str) -> bytes:
    """Return the file of a closed period's report, as it was made at closing; NotFoundError if there is none."""
    bound = {"period": str(period), "report": report, "format": file_format}
    with _control(control_dsn) as connection:
        row = connection.execute(ARTEFACT, bound).fetchone()
    if row is None:
        raise NotFoundError(f"There is no {file_format} file of the report {report} of {period}.")
    content: bytes = row["content"]
    return content


def stored_files(control_dsn: str, period: Period) -> list[StoredFile]:
    """Return every file of a closed period with the checksum that was stored with it."""
    with _control(control_dsn) as connection:
        rows = connection.execute(STORED, {"period": str(period)}).fetchall()
    return [
        StoredFile(
            artefact=Artefact(report=row["report"], format=row["format"], content=row["content"]),
            stated_sha256=row["sha256"],
        )
        for row in rows
    ]


def closed_file(control_dsn: str, file_sha256: str) -> tuple[Period, str, str] | None:
    """Return (period, report, format) of the stored file with this checksum; None if no closed period has it."""
    with _control(control_dsn) as connection:
        known = connection.execute("select to_regclass('finance.artefacts') as known").fetchone()
        if known is None or known["known"] is None:
            return None
        row = connection.execute(BY_SHA256, {"sha256": file_sha256}).fetchone()
    return None if row is None else (parse_period(row["period"]), row["report"], row["format"])


@contextmanager
def _control(control_dsn: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    try:
        with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
            yield connection
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"The control database cannot be reached: {reason}") from None
