"""Reports for finance: read at a moment or at cuts, and written as a table, CSV or JSON.

Belongs here: what `tieout report` accepts and how amounts look. Does not belong here: figures (`derived/reports.py`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from contracts.errors import InputError
from contracts.money import format_minor
from contracts.settings import Settings
from derived.reports import Report, cuts_at, read_report

MICRO = "_micro"
MINOR = "_minor"


def report_at(settings: Settings, name: str, *, as_of: str | None, cuts: Sequence[str]) -> Report:
    """Return a report at the end of a day or at a moment (`as_of`), at cuts (``pod1=17``), or of the newest build.

    Raises InputError for what cannot be read or is not known yet.
    """
    if as_of and cuts:
        raise InputError("Give either --as-of or --cut, not both.")
    wanted = _parse_cuts(settings, cuts) if cuts else None
    if as_of:
        wanted = cuts_at(settings, parse_moment(as_of))
    return read_report(settings, name, cuts=wanted)


def parse_moment(text: str) -> datetime:
    """Return the moment of an ISO 8601 text, UTC unless it says otherwise; a date is the end of that day."""
    try:
        if len(text) == len("2011-01-31"):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), tzinfo=UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no date or time; write 2011-01-31 or 2011-01-31T18:00:00.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parse_cuts(settings: Settings, texts: Sequence[str]) -> dict[str, int]:
    found = {}
    for text in texts:
        pod, _, number = text.partition("=")
        if not number.isdigit():
            raise InputError(f"{text!r} is no cut; write it as pod1=17.")
        found[settings.pod(pod).pod] = int(number)
    return found


def headings(report: Report) -> list[str]:
    """Return what people call the columns: without units, which the amounts show."""
    return [
        name.removesuffix(MINOR).removesuffix(MICRO).removesuffix("_id").replace("_", " ").capitalize()
        for name in report.columns
    ]


def shown_rows(report: Report) -> list[list[str]]:
    """Return the rows as text; money as decimals in major units of the row's currency."""
    currency = report.columns.index("currency") if "currency" in report.columns else None
    return [
        [
            _shown(name, value, str(row[currency]) if currency is not None else None)
            for name, value in zip(report.columns, row, strict=True)
        ]
        for row in report.rows
    ]


def _shown(name: str, value: object, currency: str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int | Decimal) and name.endswith(MINOR) and currency is not None:
        return format_minor(int(value), currency)
    if isinstance(value, int | Decimal) and name.endswith(MICRO):
        return f"{Decimal(value).scaleb(-6):.6f}"
    return str(value)


def is_number(name: str) -> bool:
    """Return whether a column holds amounts or counts."""
    return name.endswith((MINOR, MICRO, "_ppm", "_count", "_quantity"))


def as_csv(report: Report) -> str:
    """Return the report as CSV with a heading line; amounts as shown to people."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # Without units: the amounts are decimals here.
    writer.writerow(name.removesuffix(MINOR).removesuffix(MICRO) for name in report.columns)
    writer.writerows(shown_rows(report))
    return text.getvalue()


def as_json(report: Report) -> Mapping[str, Any]:
    """Return the report for programs: amounts as integers, their unit at the end of each name."""
    return {
        "name": report.name,
        "cuts": dict(report.cuts),
        "build_id": report.build_id,
        "data_at": report.data_at.isoformat() if report.data_at else None,
        "age_seconds": report.age_seconds,
        "rows": [{name: _plain(value) for name, value in zip(report.columns, row, strict=True)} for row in report.rows],
    }


def _plain(value: object) -> object:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return value if isinstance(value, int | str | bool | None) else str(value)


def standing(report: Report) -> str:
    """Return at which cuts the figures stand and how old they are, in one sentence."""
    cuts = ", ".join(f"{pod} at cut {cut}" for pod, cut in sorted(report.cuts.items())) or "no pod"
    age = f", as of {report.data_at:%Y-%m-%d %H:%M:%S} UTC" if report.data_at else ""
    return f"{len(report.rows):,} rows; {cuts}{age}."
