"""Making a report: of everything up to some cuts, of an open period, or of a closed period from its stored files.

Belongs here: combining figures and evidence. Does not belong here: which cuts were requested
(`stack/looking/as_of.py`), figures (`derived/reports.py`), what a period's report holds (`finance/reading.py`), file
formats (`finance/files.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from contracts.clock import Clock, utc_now
from contracts.errors import ConflictError, InputError
from contracts.settings import Settings
from derived.reports import REPORTS, report_on
from finance.books import ClosedPeriod, closed_periods, read_artefact
from finance.closings import forgotten
from finance.files import FILES
from finance.periods import Period, parse_period
from finance.reading import read_period, reading, taken_back
from finance.statement import Statement, from_json, state
from stack.composition.certificate_evidence import gather_evidence
from stack.looking.as_of import check_asked, wanted_cuts


@dataclass(frozen=True, kw_only=True)
class Made:
    """A report and its files: made now, or stored when its period was closed."""

    statement: Statement
    file: Callable[[str], bytes]
    """Takes a format (`finance.files.FILES`) and returns the file's bytes."""
    said: str = ""
    """A sentence that explains the requested cuts; empty when none were requested."""


def make_report(
    settings: Settings,
    name: str,
    *,
    as_of: str | None = None,
    cuts: Sequence[str] = (),
    period: str | None = None,
    clock: Clock = utc_now,
) -> Made:
    """Return a report at the end of a day, at a moment or at cuts (`as_of`, `cuts`), by default at the newest build.

    With `period` (a month) it is that month's report. Raises InputError for options that cannot be parsed or that ask
    for what is not recorded yet.
    """
    check_question(name, as_of=as_of, cuts=cuts, period=period, clock=clock)
    asked = wanted_cuts(settings, as_of, cuts, clock=clock)
    wanted = None if asked is None else asked.cuts
    said = "" if asked is None else asked.sentence
    if period is None:
        return _made(statement_of(settings, name, cuts=wanted, clock=clock), said)
    month = parse_period(period)
    closed = closed_periods(settings.control_dsn)
    if any(one.period == month for one in closed):
        if wanted is not None:
            raise InputError(f"{month} is closed and stands at the cuts of its closing; leave --as-of and --cut out.")
        return stored_report(settings, name, month)
    return _made(open_period(settings, name, month, closed, cuts=wanted, clock=clock), said)


def check_question(
    name: str, *, as_of: str | None, cuts: Sequence[str], period: str | None, clock: Clock = utc_now
) -> None:
    """Raise InputError for options that are invalid for every system; no server is queried."""
    if name not in REPORTS:
        raise InputError(f"There is no report {name!r}; the reports are {', '.join(REPORTS)}.")
    check_asked(as_of, cuts, clock=clock)
    if period is not None:
        parse_period(period)


def statement_of(
    settings: Settings, name: str, *, cuts: Mapping[str, int] | None = None, clock: Clock = utc_now
) -> Statement:
    """Return a report of everything up to `cuts` (by default those of the newest build), with its certificate."""
    with reading(settings) as lake:
        report = report_on(lake, name, cuts=cuts, clock=clock)
        evidence = gather_evidence(settings, lake, report.cuts)
    return state(report, evidence, made_at=clock())


def open_period(
    settings: Settings,
    name: str,
    period: Period,
    closed: Sequence[ClosedPeriod],
    *,
    cuts: Mapping[str, int] | None = None,
    clock: Clock = utc_now,
) -> Statement:
    """Return the preliminary report of an open period, with its certificate.

    Raises ConflictError while the books lack an earlier closing: the facts of a month depend on the closings before it.
    """
    if lost := list(forgotten(settings.lake_backup_path, closed)):
        raise ConflictError(f"The report of {period} cannot be told: {'; '.join(lost)}.")
    with reading(settings) as lake:
        if found := taken_back(lake, closed):
            raise ConflictError(f"The report of {period} cannot be told: {'; '.join(found)}.")
        report = read_period(lake, name, period, [one.close for one in closed], cuts=cuts, clock=clock)
        evidence = gather_evidence(settings, lake, report.cuts)
    return state(report, evidence, made_at=clock(), period=period)


def stored_report(settings: Settings, name: str, period: Period) -> Made:
    """Return the report of a closed period; its files are the stored files, byte for byte."""

    def file(file_format: str) -> bytes:
        return read_artefact(settings.control_dsn, period, name, file_format)

    return Made(statement=from_json(json.loads(file("json"))), file=file)


def _made(statement: Statement, said: str) -> Made:
    return Made(statement=statement, file=lambda file_format: FILES[file_format](statement), said=said)
