"""Collects the evidence for certificates: what comparisons and the ledger of breaks say about the figures of finance.

Belongs here: which pairs finance depends on, and reading their results, totals and breaks. Does not belong here: what
follows from them (`finance/certificate.py`, `finance/closing.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg

from contracts.breaks import ENDED, BreakState
from contracts.errors import PropagationError, StackError
from contracts.settings import PodSettings, Settings
from contracts.verdicts import PairResult
from derived.leaving_out import left_out
from derived.reports import Connection
from finance.certificate import Evidence, FigureEvidence, LeftOut
from finance.closing import Proof, compared_cuts
from finance.imports import hold_imports, unended_imports
from finance.late_facts import Remaining, remaining
from finance.periods import Period
from finance.reading import epoch_starts
from reconcile.coverage import compared_since
from reconcile.figure_results import figures_at
from reconcile.pair import Stage
from reconcile.pairs import PAIRS
from reconcile.results import EpochStart, answered_since, complete_results, latest_results
from repair.ledger import breaks, hold_ledger

COMPARED = tuple(pair.name for pair in PAIRS if pair.stage is Stage.WAREHOUSE)
"""The pairs that a certificate lists: they compare finance with operations, and the journal with itself."""
SOURCES = frozenset(
    {"oltp_identities"} | {pair.name for pair in PAIRS if pair.name.startswith("oltp_lake.") or pair.stored_tables}
)
"""The pairs that check finance's sources: they find contradictions inside OLTP, and differences of lake and OLTP, and
of what the warehouse stores and the lake.
"""
DEPENDED_ON = SOURCES.union(COMPARED)
UNENDED = tuple(state for state in BreakState if state not in ENDED)


def gather_evidence(settings: Settings, lake: Connection, cuts: Mapping[str, int]) -> Evidence:
    """Return the evidence about the marts at `cuts` (pod -> cut)."""
    with _control_answers():
        starts = _epoch_starts(lake)
        found = {pod: _at_or_after(settings.control_dsn, pod, cut, starts.get(pod)) for pod, cut in cuts.items()}
        unproven = _unproven(settings, cuts, starts)
        evidence = _evidence(settings, {pod: results for pod, (results, _) in found.items()}, unproven)
        since = {pod: since for pod, (_, since) in found.items() if since}
        return replace(evidence, compared_since=since, left_out=_left_out(lake, cuts))


def gather_proof(settings: Settings, lake: Connection, period: Period) -> Proof:
    """Return the evidence for closing a period, at the newest cuts at which everything was compared."""
    with _control_answers():
        starts = _epoch_starts(lake)
        results = {
            pod.pod: complete_results(settings.control_dsn, pod.pod, COMPARED, epoch=starts.get(pod.pod))
            for pod in settings.pods
        }
        newest = [result for result in latest_results(settings.control_dsn) if result.pair in DEPENDED_ON]
        known = {(result.pair, result.pod) for result in newest}
        never = [(pair.name, pod.pod) for pair in PAIRS for pod in settings.pods if pair.name in DEPENDED_ON]
        at = {pod: found[0].cut or 0 for pod, found in results.items() if found}
        evidence = _evidence(settings, results, _unproven(settings, at, starts))
        evidence = replace(evidence, left_out=_left_out(lake, compared_cuts(evidence)))
        return Proof(
            evidence=evidence,
            newest=newest,
            never=[one for one in never if one not in known],
            remaining=[
                _remaining(settings.pod(pod), lake, cut, period) for pod, cut in compared_cuts(evidence).items()
            ],
            imports=unended_imports(settings.control_dsn),
        )


def hold_proof(connection: psycopg.Connection[Any]) -> None:
    """Lock out comparisons' results, decisions about breaks and new imports until the transaction ends."""
    hold_ledger(connection)
    hold_imports(connection)


def _remaining(pod: PodSettings, lake: Connection, cut: int, period: Period) -> Remaining:
    try:
        return remaining(pod, lake, cut, period)
    except (psycopg.Error, PropagationError) as error:
        return Remaining(pod=pod.pod, cut=cut, unknown=str(error).strip().partition("\n")[0])


def _at_or_after(
    control_dsn: str, pod: str, cut: int, epoch: EpochStart | None
) -> tuple[list[PairResult], datetime | None]:
    """Return the results that are evidence for a cut, and since when all was compared; the latter is None if complete.

    When there is no complete comparison at or after the cut, the results are those of a partial comparison.
    """
    if whole := complete_results(control_dsn, pod, COMPARED, since_cut=cut, epoch=epoch):
        return whole, None
    partial = complete_results(control_dsn, pod, COMPARED, since_cut=cut, epoch=epoch, is_partial=True)
    if not partial or partial[0].cut is None:
        return [], None
    since = compared_since(control_dsn, pod, COMPARED, partial[0].cut)
    return (partial, since) if since else ([], None)


def _unproven(
    settings: Settings, cuts: Mapping[str, int], starts: Mapping[str, EpochStart]
) -> dict[str, tuple[str, ...]]:
    """Return per pod the comparisons of finance's sources that have no answer at or after the pod's cut."""
    found = {}
    for pod, cut in cuts.items():
        answered = answered_since(settings.control_dsn, pod, SOURCES, since_cut=cut, epoch=starts.get(pod))
        found[pod] = tuple(sorted(SOURCES - {result.pair for result in answered}))
    return {pod: pairs for pod, pairs in found.items() if pairs}


def _evidence(
    settings: Settings, results: Mapping[str, Sequence[PairResult]], unproven: Mapping[str, tuple[str, ...]]
) -> Evidence:
    found = breaks(settings.control_dsn, states=UNENDED, limit=None)
    return Evidence(
        results=results,
        unproven=unproven,
        figures=_figures(settings, results),
        breaks=[one for one in found if one.pair in DEPENDED_ON],
    )


def _left_out(lake: Connection, cuts: Mapping[str, int]) -> tuple[LeftOut, ...]:
    """Return the defective aggregates that the warehouse leaves out as of `cuts`."""
    return tuple(
        LeftOut(
            pod=found.pod,
            aggregate_key=found.aggregate_key,
            merchant_id=found.merchant_id,
            currency=found.currency,
            amounts=dict(found.shown),
            reason=found.reason,
        )
        for found in left_out(lake, cuts)
    )


def _figures(settings: Settings, results: Mapping[str, Sequence[PairResult]]) -> list[FigureEvidence] | None:
    """Return the totals at the cuts of the results; None when those of a pod were not kept."""
    found = []
    for pod, compared in results.items():
        if not compared or compared[0].cut is None:
            continue
        kept = figures_at(settings.control_dsn, pod, compared[0].cut)
        if kept is None:
            return None
        found += [
            FigureEvidence(
                pod=figure.pod,
                cut=compared[0].cut,
                currency=figure.currency,
                name=figure.name,
                operational=figure.operational,
                finance=figure.finance,
            )
            for figure in kept
        ]
    return found


def _epoch_starts(lake: Connection) -> dict[str, EpochStart]:
    return {
        pod: EpochStart(base_cut=base_cut, opened_at=opened_at)
        for pod, (base_cut, opened_at) in epoch_starts(lake).items()
    }


@contextmanager
def _control_answers() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"The control database cannot be reached: {reason}") from None
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable):
        raise StackError(
            "The control database was set up by an earlier version; `tieout up` brings everything to this one."
        ) from None
