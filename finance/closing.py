"""Closing a period: find the obstacles, and freeze the period if there are none.

Belongs here: the rules of closing, and making the files that are stored. Does not belong here: the tables
(`finance/books.py`), what is shown before (`finance/preview.py`), gathering the evidence
(`stack/composition/certificate_evidence.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from contracts.breaks import ENDED, UNSETTLED, Break, BreakState
from contracts.clock import Clock, utc_now
from contracts.errors import ConflictError, InputError, PeriodNotReadyError, WarehouseError
from contracts.settings import Settings
from contracts.text import counted
from contracts.verdicts import PairResult, Verdict
from derived.builds import build_lock
from derived.reports import REPORTS, Connection, noted_cuts, standing_cuts
from finance.books import Artefact, ClosedPeriod, closed_periods, closing_alone, write_period
from finance.certificate import Evidence, touching
from finance.closings import forgotten, remember
from finance.content_hash import canonical
from finance.files import FILES
from finance.imports import OpenImport
from finance.late_facts import Remaining
from finance.periods import Close, Period
from finance.reading import has_days, read_period, reading, require_spans, taken_back, unclosed_months
from finance.statement import Statement, state

FORMAT = "tieout-period/1"
LISTED_MAX = 10
NAMED_MAX = 3


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What is known when a period is to be closed."""

    evidence: Evidence
    """The newest complete comparison of every pod; the period is closed at its cuts."""
    newest: Sequence[PairResult]
    """The newest result of every pair that finance depends on, in every pod, complete or incremental."""
    never: Sequence[tuple[str, str]] = ()
    """(pair, pod) that were never compared."""
    remaining: Sequence[Remaining]
    """What every compared pod has recorded after its cut."""
    imports: Sequence[OpenImport]
    """Imports that are running or were interrupted."""


Gather = Callable[[Connection], Proof]
"""Reads what is known when a period is to be closed."""
Hold = Callable[[psycopg.Connection[Any]], None]
"""Blocks recording comparisons, deciding about breaks and beginning imports until the transaction ends."""


def close_period(
    settings: Settings,
    period: Period,
    gather: Gather,
    hold: Hold,
    *,
    by: str,
    expected: Mapping[str, str] | None = None,
    is_empty_allowed: bool = False,
    clock: Clock = utc_now,
) -> ClosedPeriod:
    """Freeze a period's reports at the cuts of the newest complete comparison, and return what was written.

    `expected`: report -> checksum of the content that was shown before; None: nothing was shown. Raises
    PeriodNotReadyError, which lists all obstacles, and ConflictError if the period is closed already or its reports
    differ from what was shown.
    """
    with (
        closing_alone(settings.control_dsn) as books,
        build_lock(settings),
        reading(settings) as lake,
    ):
        closed = closed_periods(settings.control_dsn)
        refuse_closed(period, [one.close for one in closed])
        proof, now = gather(lake), clock()
        refuse(period, obstacles(lake, settings, period, closed, proof, now, is_empty_allowed=is_empty_allowed))
        cuts = compared_cuts(proof.evidence)
        statements = statements_at(lake, period, [one.close for one in closed], proof.evidence, now)
        _refuse_other(period, statements, expected)
        artefacts = [
            Artefact(report=made.report.name, format=name, content=write(made))
            for made in statements
            for name, write in FILES.items()
        ]
        made = _closed(period, cuts, statements, artefacts, by=by, at=now)
        # From here until the commit no comparison, decision or import can be recorded: the evidence cannot change.
        hold(books)
        _look_again(settings, period, proof, gather(lake))
        write_period(books, made, artefacts)
    remember(settings.lake_backup_path, [*closed, made])
    return made


def refuse(period: Period, found: Iterable[str]) -> None:
    """Raise PeriodNotReadyError if there are obstacles."""
    if reasons := list(found):
        raise PeriodNotReadyError(str(period), reasons)


def _look_again(settings: Settings, period: Period, before: Proof, after: Proof) -> None:
    """Raise ConflictError if something was recorded between gathering the evidence and writing."""
    refuse(period, not_proven(period, [pod.pod for pod in settings.pods], after))
    if after.evidence != before.evidence:
        raise ConflictError(
            f"While {period} was being closed, a comparison was recorded or a break was decided; nothing was closed. "
            "Look at it again, then close it."
        )


def _refuse_other(period: Period, statements: Sequence[Statement], expected: Mapping[str, str] | None) -> None:
    """Raise ConflictError if the reports are not those that were shown."""
    found = {made.report.name: made.certificate.content_sha256 for made in statements}
    if expected is not None and expected != found:
        raise ConflictError(
            f"The reports of {period} are not those that were shown: a comparison at later cuts came in between; "
            "nothing was closed. Look at it again, then close it."
        )


def obstacles(
    lake: Connection,
    settings: Settings,
    period: Period,
    closed: Sequence[ClosedPeriod],
    proof: Proof,
    now: datetime,
    *,
    is_empty_allowed: bool = False,
) -> Iterator[str]:
    """Yield every obstacle to closing an open period."""
    yield from forgotten(settings.lake_backup_path, closed)
    yield from not_ended(period, now)
    yield from taken_back(lake, closed)
    yield from not_proven(period, [pod.pod for pod in settings.pods], proof)
    yield from _not_in_the_warehouse(lake, period, [one.close for one in closed], proof, is_empty_allowed)


def refuse_closed(period: Period, closes: Sequence[Close]) -> None:
    """Raise ConflictError if the period or a later one is closed already."""
    if closes and period <= closes[-1].period:
        last = closes[-1].period
        raise ConflictError(
            f"{period} is closed{'' if period == last else f', with all up to {last}'}; it never changes."
        )


def not_ended(period: Period, now: datetime) -> Iterator[str]:
    """Yield an obstacle if the month has not ended."""
    if now < period.ends_at:
        yield f"the month has not ended: it does at {period.ends_at:%Y-%m-%d %H:%M} UTC"


def compared_cuts(evidence: Evidence) -> dict[str, int]:
    """Return pod -> the cut at which it was compared."""
    return {pod: results[0].cut for pod, results in evidence.results.items() if results and results[0].cut is not None}


def not_proven(period: Period, pods: Sequence[str], proof: Proof) -> Iterator[str]:
    """Yield what comparisons and breaks leave open about a period."""
    evidence = proof.evidence
    for pod in pods:
        if not evidence.results.get(pod):
            yield f"operations and finance of {pod} were never compared completely; run `tieout reconcile`"
    if proof.never:
        named = [f"{pair} in {pod}" for pair, pod in proof.never]
        more = f" and {len(named) - NAMED_MAX:,} more" if len(named) > NAMED_MAX else ""
        yield f"never compared: {', '.join(named[:NAMED_MAX])}{more}; run `tieout reconcile`"
    compared = [result for results in evidence.results.values() for result in results]
    newer = [result for result in proof.newest if result not in compared]
    for result in [*compared, *newer]:
        yield from _unexplained(result, evidence.breaks or (), period)
    yield from _unequal(evidence)
    if evidence.breaks is None:
        yield "the ledger of breaks cannot be read, so nobody knows what is open"
    yield from _unsettled(period, evidence)
    yield from _not_arrived(period, proof)


def _not_arrived(period: Period, proof: Proof) -> Iterator[str]:
    """Yield what may belong to the period and was recorded after the cuts at which it would be closed."""
    for one in proof.imports:
        yield one.sentence
    seen = {(found.pod, found.cut) for found in proof.remaining}
    for pod, cut in sorted(compared_cuts(proof.evidence).items()):
        if (pod, cut) not in seen:
            yield f"what {pod} has recorded after cut {cut} was not looked at"
    for found in proof.remaining:
        yield from found.obstacles(period)


def _unequal(evidence: Evidence) -> Iterator[str]:
    if evidence.figures is None:
        yield "the totals of operations and finance were not kept with the comparison; run `tieout reconcile`"
    for figure in evidence.figures or ():
        if not figure.is_equal and not any(result.differences for result in evidence.results.get(figure.pod, ())):
            yield f"{figure.name} in {figure.currency} of {figure.pod} differs in total, although no key does"


def _unsettled(period: Period, evidence: Evidence) -> Iterator[str]:
    breaks = [found for found in touching(evidence.breaks or (), period) if found.state in UNSETTLED]
    for found in breaks[:LISTED_MAX]:
        key = " / ".join(str(part) for part in found.key)
        where = f"{found.pair} in {found.pod}, {found.kind}"
        yield f"break {found.break_id} is {found.state}: {found.entity} {key} ({where})"
    if len(breaks) > LISTED_MAX:
        more = counted(len(breaks) - LISTED_MAX, "more break is", "more breaks are")
        yield f"{more} not settled; see `tieout breaks list`"


def _unexplained(result: PairResult, breaks: Sequence[Break], period: Period) -> Iterator[str]:
    """Yield what a comparison leaves open: what it could not compare, and differences that nobody has accepted."""
    what = f"{result.pair} in {result.pod} at cut {result.cut}"
    if result.late_keys:
        yield f"{what}: the events of {counted(result.late_keys, 'key')} are parked and were not compared"
    elif result.verdict in (Verdict.LATE, Verdict.UNKNOWN):
        yield f"{what} is {result.verdict}: {result.reason.rstrip('.')}; run `tieout reconcile`"
    if not result.differences:
        return
    explained = sum(_explains(found, result, period) for found in breaks)
    if explained < result.differences:
        differing = counted(result.differences, "key differs", "keys differ")
        yield f"{what}: {differing}, {explained:,} of them accepted or of days after the month"


def _explains(found: Break, result: PairResult, period: Period) -> bool:
    """Return whether a break is one of a comparison's differences and does not prevent closing the period."""
    if (found.pair, found.pod) != (result.pair, result.pod) or found.state in ENDED or result.cut is None:
        return False
    if not (found.first_seen_cut or 0) <= result.cut <= (found.last_seen_cut or 0):
        return False
    is_later = found.day is not None and found.day > period.last_day.isoformat()
    return found.state is BreakState.ACCEPTED or is_later


def _not_in_the_warehouse(
    lake: Connection, period: Period, closes: Sequence[Close], proof: Proof, is_empty_allowed: bool
) -> Iterator[str]:
    cuts = compared_cuts(proof.evidence)
    for pod, noted in sorted(noted_cuts(lake, cuts).items()):
        if noted is None or noted.registered_at < period.ends_at:
            when = "at an unknown moment" if noted is None else f"at {noted.registered_at:%Y-%m-%d %H:%M:%S} UTC"
            yield (
                f"the newest comparison of {pod} is at cut {cuts[pod]}, registered {when}, before the month's end; "
                "run `tieout reconcile`"
            )
    try:
        standing_cuts(lake, cuts)
        require_spans(lake)
    except InputError as error:
        yield f"{str(error).rstrip('.')}; run `tieout reconcile`"
        return
    except WarehouseError as error:
        yield str(error).rstrip(".")
        return
    months = unclosed_months(lake, period, closes, cuts)
    if months:
        yield f"{', '.join(str(month) for month in months)} comes before, has entries and is not closed; close it first"
    if not is_empty_allowed and not has_days(lake, period, cuts):
        yield (
            "the month is empty: nothing has happened on any of its days, as far as is known; if that is right, say so "
            "with --empty"
        )


def statements_at(
    lake: Connection, period: Period, closes: Sequence[Close], evidence: Evidence, now: datetime
) -> list[Statement]:
    """Return the reports of a period as they would be closed at the compared cuts; `closes` are the earlier closes."""
    all_closes = [*closes, Close(period=period, cuts=compared_cuts(evidence))]
    return [
        state(
            read_period(lake, name, period, all_closes, clock=lambda: now),
            evidence,
            made_at=now,
            period=period,
            is_closed=True,
        )
        for name in REPORTS
    ]


def _closed(
    period: Period,
    cuts: Mapping[str, int],
    statements: Sequence[Statement],
    artefacts: Sequence[Artefact],
    *,
    by: str,
    at: datetime,
) -> ClosedPeriod:
    certificate = {
        "format": FORMAT,
        "period": str(period),
        "closed_at": at.isoformat(),
        "closed_by": by,
        "cuts": dict(cuts),
        "epochs": {pod.pod: pod.epoch for pod in statements[0].certificate.pods},
        "conclusion": statements[0].certificate.conclusion,
        "breaks_accepted": statements[0].certificate.breaks_accepted,
        "reports": {
            made.report.name: {
                "rows": len(made.report.rows),
                "content_sha256": made.certificate.content_sha256,
                "files": {item.format: item.sha256 for item in artefacts if item.report == made.report.name},
            }
            for made in statements
        },
    }
    return ClosedPeriod(
        period=period,
        closed_at=at,
        closed_by=by,
        cuts=dict(cuts),
        build_id=statements[0].report.build_id,
        certificate=canonical(certificate).decode(),
    )
