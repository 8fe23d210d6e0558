"""A report together with its certificate: the value that is printed, stored and frozen.

Belongs here: that value, its JSON document, and reading it from one. Does not belong here: other file formats
(`finance/files.py` lists the modules that write them).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from derived.reports import NotedCut, Report
from finance.certificate import Certificate, Evidence, PodEvidence, Standing
from finance.certifying import certify
from finance.content_hash import plain
from finance.periods import Period, parse_period
from finance.separated import ESCAPE

NAMES = {
    "daily": "Daily sales",
    "merchant-payable": "Merchant payable",
    "tax": "Tax by jurisdiction",
    "trial-balance": "Trial balance",
}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A report and its certificate."""

    report: Report
    period: Period | None
    """None: all facts up to the cuts, of any day."""
    certificate: Certificate

    @property
    def standing(self) -> Standing:
        """Whether the report is closed, preliminary, or as of its cuts."""
        return self.certificate.standing

    @property
    def title(self) -> str:
        """The title for people: name, period and standing."""
        return f"{self.name} {self.period} ({self.standing})" if self.period else self.name

    @property
    def name(self) -> str:
        """The report's name for people, without the period."""
        return NAMES[self.report.name]


def state(
    report: Report, evidence: Evidence, *, made_at: datetime, period: Period | None = None, is_closed: bool = False
) -> Statement:
    """Return a report with its certificate."""
    standing = Standing.AS_OF if period is None else Standing.CLOSED if is_closed else Standing.PRELIMINARY
    certificate = certify(report, evidence, standing=standing, period=period, made_at=made_at)
    return Statement(report=report, period=period, certificate=certificate)


def as_json(statement: Statement) -> Mapping[str, Any]:
    """Return the report for programs: amounts as integers, with the unit at the end of each name."""
    report = statement.report
    return {
        "name": report.name,
        "period": None if statement.period is None else str(statement.period),
        "standing": statement.standing.value,
        "cuts": dict(report.cuts),
        "build_id": report.build_id,
        "data_at": report.data_at.isoformat() if report.data_at else None,
        "age_seconds": report.age_seconds,
        "columns": list(report.columns),
        "rows": [{name: plain(value) for name, value in zip(report.columns, row, strict=True)} for row in report.rows],
        "certificate": statement.certificate.as_json(),
    }


def json_file(statement: Statement) -> bytes:
    """Return the JSON document as a file."""
    return json_bytes(as_json(statement))


def certificate_file(statement: Statement) -> bytes:
    """Return the certificate as a JSON file of its own, for a CSV file, which cannot contain it."""
    value = {
        "name": statement.report.name,
        "period": None if statement.period is None else str(statement.period),
        "cuts": dict(statement.report.cuts),
        # The CSV file's escape character (finance/separated.py); without this key the names are not escaped.
        "csv_escape": ESCAPE,
        "certificate": statement.certificate.as_json(),
    }
    return json_bytes(value)


def json_bytes(value: Any) -> bytes:
    """Return a JSON value as an indented UTF-8 file."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def from_json(value: Mapping[str, Any]) -> Statement:
    """Return the statement of a JSON document; dates and times in its rows stay text."""
    certificate = msgspec.convert(value["certificate"], Certificate)
    columns = tuple(value["columns"])
    report = Report(
        name=value["name"],
        columns=columns,
        rows=tuple(tuple(row[name] for name in columns) for row in value["rows"]),
        cuts=value["cuts"],
        build_id=value["build_id"],
        data_at=None if value["data_at"] is None else datetime.fromisoformat(value["data_at"]),
        age_seconds=value["age_seconds"],
        noted={pod.pod: _noted(pod) for pod in certificate.pods},
    )
    period = None if value["period"] is None else parse_period(value["period"])
    return Statement(report=report, period=period, certificate=certificate)


def _noted(pod: PodEvidence) -> NotedCut | None:
    if pod.registered_at is None or pod.epoch is None:
        return None
    return NotedCut(registered_at=datetime.fromisoformat(pod.registered_at), epoch=pod.epoch)
