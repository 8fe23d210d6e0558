"""Making a certificate: what comparisons and breaks say about a report, and the conclusion in one sentence.

Belongs here: how a certificate follows from the evidence. Does not belong here: its values (`finance/certificate.py`),
reading the evidence (`stack/composition/certificate_evidence.py`), how a certificate looks
(`finance/certificate_tables.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from contracts.breaks import ENDED, UNSETTLED, Break, BreakState
from contracts.money import CURRENCY_EXPONENTS, format_minor
from contracts.text import are, counted
from contracts.tying import Tying
from contracts.verdicts import PairResult, Verdict
from derived.reports import Report
from finance.certificate import (
    BREAKS_LISTED_MAX,
    BreakEvidence,
    Certificate,
    Coverage,
    Evidence,
    FigureEvidence,
    LeftOut,
    PairEvidence,
    PodEvidence,
    Standing,
    content_of,
    totals,
    touches,
    touching,
)
from finance.content_hash import content_sha256
from finance.periods import Period
from finance.presentation import heading, moment

COVERS = (
    "Finance against operations, and what finance is made from: the lake's copies of the tables, and the tables' own "
    "identities. Views, log, outbox and backup are not covered; a run of all comparisons covers them."
)
NAMED_MAX = 3


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
        conclusion=with_left_out(
            _conclusion(pods, figures, breaks, _settled_keys(pods, evidence, period), unproven), evidence.left_out
        ),
        covers=COVERS,
        left_out=tuple(evidence.left_out),
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
    """Return how many of the differing keys are accepted, or belong to days after the period."""
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
    """Return the conclusion, the worst first: what differs, then what was not compared, and only then that it ties."""
    differing = sum(pair.differences for pod in pods for pair in pod.pairs)
    unequal = sum(not figure.is_equal for figure in figures or ())
    unsettled = sum(found.state in UNSETTLED for found in breaks or ())
    accepted = len(breaks or ()) - unsettled
    if unsettled or differing > settled_keys or (unequal and not settled_keys):
        left = counted(unsettled, "break is open", "breaks are open")
        return (
            f"{Tying.DOES_NOT_TIE}: {counted(differing, 'key')} and {counted(unequal, 'total')} differ between "
            f"operations and finance, and {'it is not known which of that is settled' if breaks is None else left}."
        )
    if gap := _gap(pods, figures, breaks, unproven):
        return gap
    when = _when(pods)
    if accepted:
        return f"{Tying.TIES} but for {counted(accepted, 'accepted difference')}, {when}."
    return f"{Tying.TIES}: operations and finance agree key by key and in total, {when}."


def with_left_out(conclusion: str, left_out: Sequence[LeftOut]) -> str:
    """Return a conclusion that also says what is left out of the figures, with its amounts."""
    if not left_out:
        return conclusion
    merchants = sorted({found.merchant_id for found in left_out})
    named = ", ".join(merchants[:NAMED_MAX]) + (", ..." if len(merchants) > NAMED_MAX else "")
    return (
        f"{conclusion} {counted(len(left_out), 'defective aggregate')} of {named} {are(len(left_out))} left out of "
        f"the figures{_money(left_out)}; the certificate lists them."
    )


def _money(left_out: Sequence[LeftOut]) -> str:
    """Return the sums of what is left out, per currency, in words."""
    sums: dict[tuple[str, str], int] = {}
    for found in left_out:
        for name, value in found.amounts.items():
            if found.currency in CURRENCY_EXPONENTS:
                sums[found.currency, name] = sums.get((found.currency, name), 0) + value
    shown = [
        f"{heading(name).lower()} {format_minor(value, currency)} {currency}"
        for (currency, name), value in sorted(sums.items())
    ]
    return f" ({', '.join(shown)})" if shown else ""


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
        return f"{Tying.NOT_COMPARED} completely: the events of {counted(parked, 'key')} are parked."
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
