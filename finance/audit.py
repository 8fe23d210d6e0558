"""Auditing closed periods: are their files what was stored, and do the marts still say what they said?

Three things are held against each other: the files, the checksums in the period's certificate, and the report as the
marts have it today at the cuts of the closing. The third may fail without anybody's fault in the books: an event that
was added under an old cut, or models that compute something else than they did. The stored files stay what they were.

Belongs here: that comparison. Does not belong here: files that somebody sent (`finance/verification.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.errors import InputError, WarehouseError
from contracts.settings import Settings
from contracts.text import counted
from derived.reports import REPORTS, Connection
from finance.books import ClosedPeriod, closed_periods, stored_files
from finance.canonical import content_sha256
from finance.certificate import content_of
from finance.periods import Close, Period
from finance.reading import read_period, reading, taken_back


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found of one closed period."""

    period: Period
    files: int
    """How many were looked at."""
    reports: int
    """How many were computed again."""
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
    """Audit all closed periods, or one of them; WarehouseError when there is no warehouse to hold them against."""
    closed = closed_periods(settings.control_dsn)
    closes = [one.close for one in closed]
    with reading(settings) as lake:
        return [_audit(settings, lake, one, closes) for one in closed if only is None or one.period == only]


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
    faults += _differing(lake, closed, closes)
    return Audit(period=closed.period, files=len(files), reports=len(stated), faults=tuple(faults))


def _differing(lake: Connection, closed: ClosedPeriod, closes: Sequence[Close]) -> Iterator[str]:
    for name, values in closed.stated["reports"].items():
        if name not in REPORTS:
            continue
        try:
            report = read_period(lake, name, closed.period, closes)
        except (InputError, WarehouseError) as error:
            yield f"{name} cannot be computed again: {error}"
            continue
        if content_sha256(content_of(report, closed.period)) != values["content_sha256"]:
            yield (
                f"{name} is no longer what the marts say at the cuts of the closing: they have "
                f"{counted(len(report.rows), 'row')} where {values['rows']:,} were closed, or other figures in them"
            )
