"""Auditing closed periods: are the stored files unchanged, and do the marts still give the same reports?

An audit compares three things: the files, the checksums in the period's certificate, and the report that the marts give
today at the cuts of the closing. It compares only the columns that the report had then, because a mart may get columns
later. The third comparison can fail although nobody changed the books: an event was added under an old cut, or the
models compute something else now. The stored files do not change.

Belongs here: that comparison. Does not belong here: files that somebody sent (`finance/verification.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contracts.errors import InputError, WarehouseError
from contracts.settings import Settings
from contracts.text import counted
from derived.reports import REPORTS, Connection, Report
from finance.books import ClosedPeriod, closed_periods, stored_files
from finance.certificate import content_of
from finance.content_hash import content_sha256
from finance.periods import Close, Period
from finance.reading import read_period, reading, taken_back


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of auditing one closed period."""

    period: Period
    files: int
    """Number of files that were checked."""
    reports: int
    """Number of reports that were computed again."""
    faults: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """Whether everything is as it was when the period was closed."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """Return the audit as values that JSON can hold."""
        return {
            "period": str(self.period),
            "is_intact": self.is_intact,
            "files": self.files,
            "reports": self.reports,
            "faults": list(self.faults),
        }


def audit_periods(settings: Settings, only: Period | None = None) -> list[Audit]:
    """Audit all closed periods, or one of them; WarehouseError if there is no warehouse to compare them with."""
    closed = closed_periods(settings.control_dsn)
    closes = [one.close for one in closed]
    with reading(settings) as lake:
        return [_audit(settings, lake, one, closes) for one in closed if only is None or one.period == only]


def in_columns(report: Report, names: Sequence[str]) -> Report:
    """Return the report with these columns, in this order; WarehouseError if the marts lack one of them."""
    missing = [name for name in names if name not in report.columns]
    if missing:
        raise WarehouseError(f"the marts have no column {' and no column '.join(missing)} any more")
    places = [report.columns.index(name) for name in names]
    rows = tuple(tuple(row[place] for place in places) for row in report.rows)
    return replace(report, columns=tuple(names), rows=rows)


def _audit(settings: Settings, lake: Connection, closed: ClosedPeriod, closes: Sequence[Close]) -> Audit:
    stated = closed.stated["reports"]
    files = stored_files(settings.control_dsn, closed.period)
    faults = [*taken_back(lake, [closed])]
    found = {(item.artefact.report, item.artefact.format): item.artefact.sha256 for item in files}
    for report, values in stated.items():
        for file_format, checksum in values["files"].items():
            if (report, file_format) not in found:
                faults.append(f"the {file_format} file of {report} is gone")
            elif found[report, file_format] != checksum:
                faults.append(f"the {file_format} file of {report} is not the one that was certified")
    columns = {
        one.artefact.report: tuple(json.loads(one.artefact.content)["columns"])
        for one in files
        if one.artefact.format == "json" and one.artefact.sha256 == stated[one.artefact.report]["files"]["json"]
    }
    faults += _differing(lake, closed, closes, columns)
    return Audit(period=closed.period, files=len(files), reports=len(stated), faults=tuple(faults))


def _differing(
    lake: Connection, closed: ClosedPeriod, closes: Sequence[Close], columns: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield how the marts differ from what was closed; `columns`: report -> columns of its unchanged JSON file."""
    for name, values in closed.stated["reports"].items():
        if name not in REPORTS:
            continue
        try:
            report = read_period(lake, name, closed.period, closes)
            report = in_columns(report, columns.get(name, report.columns))
        except (InputError, WarehouseError) as error:
            yield f"{name} cannot be computed again: {error}"
            continue
        if content_sha256(content_of(report, closed.period)) != values["content_sha256"]:
            yield (
                f"{name} is no longer what the marts say at the cuts of the closing: they have "
                f"{counted(len(report.rows), 'row')} where {values['rows']:,} were closed, or other figures in them"
            )
