"""The tie-out certificate: what was proven about a report's figures, and what was not.

Every report carries one: at which cuts it stands, which comparison of operations with finance covers these cuts and
what it found, which differences are open or accepted, and a checksum of the content. A missing answer is null and said
in words, never 0.

Belongs here: the values and how they follow from comparisons and breaks. Does not belong here: reading those
(`stack/evidence.py`), how a certificate looks (`finance/page.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from contracts.breaks import ENDED, UNSETTLED, Break, BreakState
from contracts.tying import Tying
from contracts.verdicts import PairResult, Verdict
from derived.reports import Report
from finance.canonical import Content, content_sha256
from finance.periods import Period
from finance.presentation import is_number, moment

FORMAT = "tieout-certificate/1"
COVERS = (
    "Finance against operations, and what finance is made from: the lake's copies of the tables, and the tables' own "
    "identities. Views, log, outbox and backup are not covered; a run of all comparisons covers them."
)
NAMED_MAX = 3
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
    unproven: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Pod -> comparisons of what finance is made from that gave no answer at or after the cut."""
    compared_since: Mapping[str, datetime] = field(default_factory=dict)
    """Pod whose comparisons looked at what changed -> since when everything of it was compared at least once."""
    figures: Sequence[FigureEvidence] | None
    """Of the cuts at which `results` were compared; None: not kept."""
    breaks: Sequence[Break] | None
    """Those that have not ended, of all pairs that finance depends on; None: no ledger is kept."""


def certify(
    report: Report, evidence: Evidence, *, standing: Standing, period: Period | None, made_at: datetime
) -> Certificate:
    """Return the certificate of a report."""
    pods = tuple(_pod(report, pod, evidence) for pod in sorted(report.cuts))
    figures = None if evidence.figures is None else tuple(evidence.figures)
    breaks = None if evidence.breaks is None else touching(evidence.breaks, period)
    unsettled = None if breaks is None else sum(found.state in UNSETTLED for found in breaks)
    unproven = tuple(f"{pair} in {pod}" for pod, pairs in sorted(evidence.unproven.items()) for pair in pairs)
    return Certificate(
        report=report.name,
        period=None if period is None else str(period),
        standing=standing,
        conclusion=_conclusion(pods, figures, breaks, _settled_keys(pods, evidence, period), unproven),
        covers=COVERS,
        unproven=unproven,
        made_at=made_at.isoformat(),
        build_id=report.build_id,
        pods=pods,
        figures=figures,
        breaks_unsettled=unsettled,
        breaks_accepted=None if breaks is None else sum(found.state is BreakState.ACCEPTED for found in breaks),
        breaks=tuple(_break(found) for found in (breaks or ())[:BREAKS_LISTED_MAX]),
        totals=totals(report.columns, report.rows),
        columns=tuple(report.columns),
        content_sha256=content_sha256(content_of(report, period)),
    )


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


def _pod(report: Report, pod: str, evidence: Evidence) -> PodEvidence:
    cut, results = report.cuts[pod], evidence.results.get(pod, ())
    noted = report.noted.get(pod)
    compared = results[0].cut if results else None
    since = evidence.compared_since.get(pod)
    return PodEvidence(
        pod=pod,
        cut=cut,
        epoch=None if noted is None else noted.epoch,
        registered_at=None if noted is None else noted.registered_at.isoformat(),
        coverage=_coverage(cut, results, since),
        compared_at_cut=compared,
        compared_since=None if since is None else since.isoformat(),
        pairs=tuple(
            PairEvidence(
                pair=result.pair,
                verdict=result.verdict,
                compared=result.compared,
                differences=result.differences,
                parked=result.late_keys,
                checked_at=result.checked_at.isoformat(),
            )
            for result in results
        ),
    )


def _coverage(cut: int, results: Sequence[PairResult], since: datetime | None) -> Coverage:
    compared = results[0].cut if results else None
    if compared is None or compared < cut:
        return Coverage.NONE
    if not all(result.is_whole for result in results):
        return Coverage.NONE if since is None else Coverage.CHANGED
    return Coverage.EXACT if compared == cut else Coverage.LATER


def _break(found: Break) -> BreakEvidence:
    return BreakEvidence(
        break_id=found.break_id,
        state=found.state,
        pair=found.pair,
        pod=found.pod,
        entity=found.entity,
        key=found.key,
        kind=found.kind.value,
        merchant_id=found.merchant_id,
        day=found.day,
        currency=found.currency,
        amounts={item.column: item.difference for item in found.columns if item.difference is not None},
        owner=found.owner,
        reason=found.reason,
    )


def _settled_keys(pods: Sequence[PodEvidence], evidence: Evidence, period: Period | None) -> int:
    """Return how many of the differing keys are accepted, or of days after the period."""
    pairs = {(pod.pod, pair.pair) for pod in pods for pair in pod.pairs}
    return sum(
        (found.pod, found.pair) in pairs and (found.state is BreakState.ACCEPTED or not touches(found, period))
        for found in evidence.breaks or ()
        if found.state not in ENDED
    )


def _conclusion(
    pods: Sequence[PodEvidence],
    figures: Sequence[FigureEvidence] | None,
    breaks: Sequence[Break] | None,
    settled_keys: int,
    unproven: Sequence[str],
) -> str:
    """Say the worst first: what differs, what was not looked at, and only then that it ties."""
    differing = sum(pair.differences for pod in pods for pair in pod.pairs)
    unequal = sum(not figure.is_equal for figure in figures or ())
    unsettled = sum(found.state in UNSETTLED for found in breaks or ())
    accepted = len(breaks or ()) - unsettled
    if unsettled or differing > settled_keys or (unequal and not settled_keys):
        return (
            f"{Tying.DOES_NOT_TIE}: {differing:,} keys and {unequal:,} totals differ between operations and finance, "
            f"and {'it is not known which of that is settled' if breaks is None else f'{unsettled:,} breaks are open'}."
        )
    if gap := _gap(pods, figures, breaks, unproven):
        return gap
    when = _when(pods)
    if accepted:
        return f"{Tying.TIES} but for {accepted:,} accepted differences, {when}."
    return f"{Tying.TIES}: operations and finance agree key by key and in total, {when}."


def _when(pods: Sequence[PodEvidence]) -> str:
    later = [f"{pod.pod} at cut {pod.compared_at_cut}" for pod in pods if pod.coverage is Coverage.LATER]
    changed = [
        f"{pod.pod} up to cut {pod.compared_at_cut}, everything at least once since {moment(pod.compared_since)}"
        for pod in pods
        if pod.coverage is Coverage.CHANGED
    ]
    parts = [f"when they were compared at a later cut ({', '.join(later)})"] if later else []
    parts += [f"when whatever had changed was compared ({'; '.join(changed)})"] if changed else []
    return " and ".join(parts) or "at exactly these cuts"


def _gap(
    pods: Sequence[PodEvidence],
    figures: Sequence[FigureEvidence] | None,
    breaks: Sequence[Break] | None,
    unproven: Sequence[str],
) -> str | None:
    missing = [pod.pod for pod in pods if pod.coverage is Coverage.NONE]
    if missing:
        named = ", ".join(missing)
        return f"{Tying.NOT_COMPARED}: operations and finance were not compared at or after this cut of {named}."
    unanswered = sorted(
        {pair.pair for pod in pods for pair in pod.pairs if pair.verdict in (Verdict.LATE, Verdict.UNKNOWN)}
    )
    if unanswered:
        return f"{Tying.NOT_COMPARED} completely: of {', '.join(unanswered)} a side could not be read."
    if parked := sum(pair.parked for pod in pods for pair in pod.pairs):
        return f"{Tying.NOT_COMPARED} completely: the events of {parked:,} keys are parked."
    if unproven:
        more = f" and {len(unproven) - NAMED_MAX:,} more" if len(unproven) > NAMED_MAX else ""
        return (
            f"{Tying.NOT_COMPARED} completely: operations and finance agree, but what finance is made from was not "
            f"compared at or after these cuts ({', '.join(unproven[:NAMED_MAX])}{more})."
        )
    if figures is None:
        return f"{Tying.NOT_COMPARED} completely: keys agree, and the totals of both sides were not kept."
    if breaks is None:
        return f"{Tying.NOT_COMPARED} completely: keys and totals agree, and no ledger of breaks is kept."
    return None
