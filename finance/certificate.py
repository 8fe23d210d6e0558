"""The tie-out certificate: what was proven about a report's figures, and what was not.

Every report carries one. It states the report's cuts, which comparison of operations with finance covers these cuts and
what it found, which differences are open or accepted, and a checksum of the content. An answer that is not known is
null, and the conclusion says so in words; it is never 0.

Belongs here: its values, and which breaks touch a report. Does not belong here: how they follow from comparisons and
breaks (`finance/certifying.py`), reading those (`stack/composition/certificate_evidence.py`), how a certificate looks
(`finance/certificate_tables.py`, `finance/page.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from contracts.breaks import ENDED, UNSETTLED, Break, BreakState
from contracts.verdicts import PairResult, Verdict
from derived.reports import Report
from finance.content_hash import Content, is_number
from finance.periods import Period

FORMAT = "tieout-certificate/1"
BREAKS_LISTED_MAX = 200
"""Maximum number of breaks in a certificate's list; the certificate also states how many there are."""


class Standing(StrEnum):
    """Whether a report can still change."""

    AS_OF = "as of its cuts"
    """Everything up to its cuts."""
    PRELIMINARY = "preliminary"
    """Of a period that is still open: the report will change."""
    CLOSED = "closed"
    """Of a closed period: the report never changes."""


class Coverage(StrEnum):
    """Which comparison covers the figures of a pod."""

    EXACT = "compared at this cut"
    LATER = "compared at a later cut"
    """The comparison covered the report's cut together with what came after it."""
    CHANGED = "what changed compared"
    """What had changed was compared at the report's cut or a later one; everything else was compared earlier."""
    NONE = "not compared"
    """No comparison of all finance pairs was made at the report's cut or after it."""


@dataclass(frozen=True, kw_only=True)
class PairEvidence:
    """What one comparison found."""

    pair: str
    verdict: Verdict
    compared: int
    """Number of keys, on either side."""
    differences: int
    parked: int
    """Number of keys that were not compared, because the lake has their events parked."""
    checked_at: str


@dataclass(frozen=True, kw_only=True)
class PodEvidence:
    """What is known of one pod's figures."""

    pod: str
    cut: int
    epoch: str | None
    """Identifies the database, and its timeline, that the cut comes from; None if nothing of the pod has arrived."""
    registered_at: str | None
    coverage: Coverage
    compared_at_cut: int | None
    compared_since: str | None
    """If only changes of the pod were compared: since when everything was compared at least once."""
    pairs: tuple[PairEvidence, ...]


@dataclass(frozen=True, kw_only=True)
class FigureEvidence:
    """One total of a pod in a currency, over all days up to the cut: operations' value and finance's value."""

    pod: str
    cut: int
    currency: str
    name: str
    """The name ends with its unit."""
    operational: int | None
    """None: this side has nothing in this currency. So has `finance`."""
    finance: int | None

    @property
    def is_equal(self) -> bool:
        """Whether operations have the total and finance has the same."""
        return self.operational is not None and self.operational == self.finance


@dataclass(frozen=True, kw_only=True)
class BreakEvidence:
    """A difference that touches the report."""

    break_id: int
    state: BreakState
    pair: str
    pod: str
    entity: str
    key: tuple[str | None, ...]
    kind: str
    merchant_id: str | None
    day: str | None
    currency: str | None
    amounts: Mapping[str, int]
    """Column -> finance's amount minus operations' amount."""
    owner: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A defective aggregate: the marts show it, and its order, as of the cut before the defect."""

    pod: str
    aggregate_key: str
    merchant_id: str
    currency: str | None
    amounts: Mapping[str, int]
    """Column -> the sum from the newest readable events, of its order if it belongs to one, otherwise of itself."""
    reason: str
    """What is wrong, and from which cut on the aggregate is left out."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums of the report's own rows in one currency."""

    currency: str
    rows: int
    sums: Mapping[str, int]
    """Column of amounts or counts -> its signed sum."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is known about a report."""

    format: str = FORMAT
    report: str
    period: str | None
    standing: Standing
    conclusion: str
    """The overall result, in one sentence."""
    made_at: str
    build_id: str
    pods: tuple[PodEvidence, ...]
    figures: tuple[FigureEvidence, ...] | None
    """None: no totals were stored for the comparison, or nothing was compared."""
    breaks_unsettled: int | None
    """Differences that touch the report and are open, being repaired or escalated; None: not known."""
    breaks_accepted: int | None
    breaks: tuple[BreakEvidence, ...]
    """The first of them, at most BREAKS_LISTED_MAX."""
    totals: tuple[Totals, ...]
    columns: tuple[str, ...]
    content_sha256: str
    covers: str = ""
    """What the conclusion is about; empty in certificates of earlier versions."""
    left_out: tuple[LeftOut, ...] = ()
    """Defective aggregates that are left out of the figures."""
    unproven: tuple[str, ...] = ()
    """Comparisons of finance's sources that gave no answer at or after these cuts."""

    def as_json(self) -> dict[str, Any]:
        """Return the certificate as values that JSON can hold."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What comparisons and the ledger of breaks say about some cuts; the caller that makes a report gathers it."""

    results: Mapping[str, Sequence[PairResult]]
    """Pod -> one comparison of every finance pair, all at one cut; empty: none at or after the report's cut."""
    left_out: Sequence[LeftOut] = ()
    """Defective aggregates that are left out of the figures."""
    unproven: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Pod -> comparisons of finance's sources that gave no answer at or after the cut."""
    compared_since: Mapping[str, datetime] = field(default_factory=dict)
    """Pod whose comparison covered only changes -> since when everything of it was compared at least once."""
    figures: Sequence[FigureEvidence] | None
    """Totals at the cuts at which `results` were compared; None: they were not stored."""
    breaks: Sequence[Break] | None
    """Breaks that have not ended, of all pairs that finance depends on; None: there is no ledger."""


def content_of(report: Report, period: Period | None) -> Content:
    """Return a report's content, whose checksum the certificate states."""
    name = None if period is None else str(period)
    return Content(name=report.name, period=name, cuts=report.cuts, columns=report.columns, rows=report.rows)


def touches(found: Break, period: Period | None) -> bool:
    """Return whether a break can change the figures of a period; None: of any report.

    It can unless its day is after the period, because a correction of an earlier day is posted in the first open
    period. A break without a day may belong to any day.
    """
    if found.state in ENDED:
        return False
    return period is None or found.day is None or found.day <= period.last_day.isoformat()


def touching(breaks: Sequence[Break], period: Period | None) -> list[Break]:
    """Return the breaks that touch a period, the unsettled ones first."""
    found = [item for item in breaks if touches(item, period)]
    return sorted(found, key=lambda item: (item.state not in UNSETTLED, item.break_id))


def totals(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Totals, ...]:
    """Return the sums of rows, by currency."""
    position = columns.index("currency")
    numbers = [(index, name) for index, name in enumerate(columns) if is_number(name)]
    found = []
    for currency in sorted({str(row[position]) for row in rows}):
        chosen = [row for row in rows if row[position] == currency]
        sums = {name: sum(int(row[index] or 0) for row in chosen) for index, name in numbers}
        found.append(Totals(currency=currency, rows=len(chosen), sums=sums))
    return tuple(found)
