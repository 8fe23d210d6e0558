"""Making a report: of everything up to some cuts, of an open period, or a closed one as it was stored.

Belongs here: what `tieout report` accepts, and putting figures and evidence together. Does not belong here: figures
(`derived/reports.py`), what a period's report holds (`finance/reading.py`), file formats (`finance/files.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from contracts.clock import Clock, utc_now
from contracts.errors import ConflictError, InputError
from contracts.settings import Settings
from derived.reports import REPORTS, cuts_at, report_on
from finance.books import ClosedPeriod, closed_periods, read_artefact
from finance.files import FILES
from finance.periods import Period, parse_period
from finance.reading import read_period, reading, taken_back
from finance.statement import Statement, from_json, state
from stack.evidence import gather_evidence


@dataclass(frozen=True, kw_only=True)
class Made:
    """A report, and the files of it: made now, or those that were stored when its period was closed."""

    statement: Statement
    file: Callable[[str], bytes]
    """Format (`finance.files.FILES`) -> the file's bytes."""


def make_report(
    settings: Settings,
    name: str,
    *,
    as_of: str | None = None,
    cuts: Sequence[str] = (),
    period: str | None = None,
    clock: Clock = utc_now,
) -> Made:
    """Return a report at the end of a day, at a moment or at cuts (`as_of`, `cuts`), by default of the newest build.

    With `period` (a month) that month's. Raises InputError for what cannot be read or is not known yet.
    """
    if name not in REPORTS:
        raise InputError(f"There is no report {name!r}; the reports are {', '.join(REPORTS)}.")
    if as_of and cuts:
        raise InputError("Give either --as-of or --cut, not both.")
    wanted = wanted_cuts(settings, as_of, cuts)
    if period is None:
        return _made(statement_of(settings, name, cuts=wanted, clock=clock))
    month = parse_period(period)
    closed = closed_periods(settings.control_dsn)
    if any(one.period == month for one in closed):
        if wanted is not None:
            raise InputError(f"{month} is closed and stands at the cuts of its closing; leave --as-of and --cut out.")
        return stored_report(settings, name, month)
    return _made(open_period(settings, name, month, closed, cuts=wanted, clock=clock))


def statement_of(
    settings: Settings, name: str, *, cuts: Mapping[str, int] | None = None, clock: Clock = utc_now
) -> Statement:
    """Return a report of everything up to `cuts`, by default those of the newest build, with its certificate."""
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
    """Return the preliminary report of an open period with its certificate; ConflictError when nobody can tell it."""
    with reading(settings) as lake:
        if found := taken_back(lake, closed):
            raise ConflictError(f"The report of {period} cannot be told: {'; '.join(found)}.")
        report = read_period(lake, name, period, [one.close for one in closed], cuts=cuts, clock=clock)
        evidence = gather_evidence(settings, lake, report.cuts)
    return state(report, evidence, made_at=clock(), period=period)


def stored_report(settings: Settings, name: str, period: Period) -> Made:
    """Return the report of a closed period, whose files are the stored ones, byte for byte."""

    def file(file_format: str) -> bytes:
        return read_artefact(settings.control_dsn, period, name, file_format)

    return Made(statement=from_json(json.loads(file("json"))), file=file)


def _made(statement: Statement) -> Made:
    return Made(statement=statement, file=lambda file_format: FILES[file_format](statement))


def wanted_cuts(settings: Settings, as_of: str | None, cuts: Sequence[str]) -> dict[str, int] | None:
    """Return the cuts that were asked for: as cuts, or as a day or moment; None for the newest."""
    if as_of and "=" in as_of:
        cuts = as_of.split(",")
    elif as_of:
        return cuts_at(settings, parse_moment(as_of))
    return _parse_cuts(settings, cuts) if cuts else None


def parse_moment(text: str) -> datetime:
    """Return the moment of an ISO 8601 text, UTC unless it says otherwise; a date is the end of that day."""
    try:
        if len(text) == len("2011-01-31"):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), tzinfo=UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{text!r} is no date or time and no cuts; write 2011-01-31, 2011-01-31T18:00:00 or pod1=17,pod2=9."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parse_cuts(settings: Settings, texts: Sequence[str]) -> dict[str, int]:
    found = {}
    for text in texts:
        pod, _, number = text.strip().partition("=")
        if not number.isdigit():
            raise InputError(f"{text!r} is no cut; write it as pod1=17.")
        found[settings.pod(pod).pod] = int(number)
    return found
