"""The tie-out certificate: what was proven about a report's figures, and what was not.

Every report carries one: at which cuts it stands, which comparison of operations with finance covers these cuts and
what it found, which differences are open or accepted, and a checksum of the content. A missing answer is null and said
in words, never 0.

Belongs here: its values, and which breaks touch a report. Does not belong here: how they follow from comparisons and
breaks (`finance/certifying.py`), reading those (`stack/composition/evidence.py`), how a certificate looks
(`finance/page.py`).
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
from finance.canonical import Content, is_number
from finance.periods import Period

FORMAT = "tieout-certificate/1"
BREAKS_LISTED_MAX = 200
"""How many breaks a certificate lists; it states how many there are."""


class Standing(StrEnum):
    """What a report is."""

    AS_OF = "as of its cuts"
    """Everything up to its cuts."""
    PRELIMINARY = "preliminary"
    """Of a period that is still open: it will change."""
    CLOSED = "closed"
    """Of a closed period: it never changes."""


class Coverage(StrEnum):
    """Which comparison speaks for the figures of a pod."""

    EXACT = "compared at this cut"
    LATER = "compared at a later cut"
    """What is at the report's cut was in what was compared, together with what came after it."""
    CHANGED = "what changed compared"
    """At the report's cut or a later one whatever had changed was compared, everything else some time before."""
    NONE = "not compared"
    """No comparison of all finance pairs was made at the report's cut or after it."""


@dataclass(frozen=True, kw_only=True)
class PairEvidence:
    """What one comparison found."""

    pair: str
    verdict: Verdict
    compared: int
    """Keys of either side."""
    differences: int
    parked: int
    """Keys that were left out, because the lake has their events parked."""
    checked_at: str


@dataclass(frozen=True, kw_only=True)
class PodEvidence:
    """What is known of one pod's figures."""

    pod: str
    cut: int
    epoch: str | None
    """Which database, and which timeline of it, the cut is of; None while nothing of the pod has come."""
    registered_at: str | None
    coverage: Coverage
    compared_at_cut: int | None
    compared_since: str | None
    """Of a pod of which only what changed was compared: since when everything was compared at least once."""
    pairs: tuple[PairEvidence, ...]


@dataclass(frozen=True, kw_only=True)
class FigureEvidence:
    """One total of a pod in a currency, over all days up to the cut, as operations and as finance have it."""

    pod: str
    cut: int
    currency: str
    name: str
    """Ends with its unit."""
    operational: int | None
    """None: this side has nothing in this currency."""
    finance: int | None

    @property
    def is_equal(self) -> bool:
        """Whether both sides have it, and the same."""
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
    """Column -> finance less operations."""
    owner: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An aggregate that is defective in itself: marts have it, and its order, as at the cut before the defect."""

    pod: str
    aggregate_key: str
    merchant_id: str
    currency: str | None
    amounts: Mapping[str, int]
    """Column -> what its order's, or its own, newest readable events come to."""
    reason: str
    """What is wrong, and from which cut on it is left out."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What the report itself adds up to in one currency."""

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
    """What the rest comes to, in one sentence."""
    made_at: str
    build_id: str
    pods: tuple[PodEvidence, ...]
    figures: tuple[FigureEvidence, ...] | None
    """None: no totals were kept for the comparison, or nothing was compared."""
    breaks_unsettled: int | None
    """Differences that are open, being repaired or escalated, and touch the report; None: it is not known."""
    breaks_accepted: int | None
    breaks: tuple[BreakEvidence, ...]
    """The first of them."""
    totals: tuple[Totals, ...]
    columns: tuple[str, ...]
    content_sha256: str
    covers: str = ""
    """What the conclusion is about; certificates of earlier versions do not say so."""
    left_out: tuple[LeftOut, ...] = ()
    """Aggregates that are left out of the figures, because they are defective in themselves."""
    unproven: tuple[str, ...] = ()
    """Comparisons of what finance is made from that gave no answer at or after these cuts."""

    def as_json(self) -> dict[str, Any]:
        """Return the certificate as values that JSON can hold."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What comparisons and the ledger of breaks say about some cuts; gathered by whoever makes a report."""

    results: Mapping[str, Sequence[PairResult]]
    """Pod -> one comparison of every finance pair, all at one cut; empty: there is none at or after the cut."""
    left_out: Sequence[LeftOut] = ()
    """Aggregates that are left out of the figures, because they are defective in themselves."""
    unproven: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Pod -> comparisons of what finance is made from that gave no answer at or after the cut."""
    compared_since: Mapping[str, datetime] = field(default_factory=dict)
    """Pod whose comparisons looked at what changed -> since when everything of it was compared at least once."""
    figures: Sequence[FigureEvidence] | None
    """Of the cuts at which `results` were compared; None: not kept."""
    breaks: Sequence[Break] | None
    """Those that have not ended, of all pairs that finance depends on; None: no ledger is kept."""


def content_of(report: Report, period: Period | None) -> Content:
    """Return what a report says."""
    name = None if period is None else str(period)
    return Content(name=report.name, period=name, cuts=report.cuts, columns=report.columns, rows=report.rows)


def touches(found: Break, period: Period | None) -> bool:
    """Return whether a break can change the figures of a period, or of any report (None).

    It can unless its day is after the period: a correction of an earlier day is posted in the first open period, and a
    break that names no day may be of any.
    """
    if found.state in ENDED:
        return False
    return period is None or found.day is None or found.day <= period.last_day.isoformat()


def touching(breaks: Sequence[Break], period: Period | None) -> list[Break]:
    """Return the breaks that touch a period, the unsettled ones first."""
    found = [item for item in breaks if touches(item, period)]
    return sorted(found, key=lambda item: (item.state not in UNSETTLED, item.break_id))


def totals(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Totals, ...]:
    """Return what rows add up to, by currency."""
    position = columns.index("currency")
    numbers = [(index, name) for index, name in enumerate(columns) if is_number(name)]
    found = []
    for currency in sorted({str(row[position]) for row in rows}):
        chosen = [row for row in rows if row[position] == currency]
        sums = {name: sum(int(row[index] or 0) for row in chosen) for index, name in numbers}
        found.append(Totals(currency=currency, rows=len(chosen), sums=sums))
    return tuple(found)
