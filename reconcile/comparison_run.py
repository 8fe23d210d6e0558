"""Runs comparisons: takes one cut per pod, shared by all pairs, and compares stage by stage.

First a run reads OLTP into scratch tables, inside the cut's snapshot. Then it closes the snapshot, and only then waits
for copies. So no snapshot is open while a copy catches up, and writers and comparisons do not block each other.

Belongs here: the order of a run, and turning every error in a pair into a verdict. Does not belong here: how one pair
is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import duckdb

from contracts.errors import InputError, LateError, TieoutError, UnprovenBuildError
from contracts.ownership import copy_named
from contracts.scope import Scope
from contracts.text import one_line
from contracts.verdicts import PairResult, Verdict
from reconcile.context import ReconcileContext, wait_for
from reconcile.figures import Figure, figures_of
from reconcile.lake_side import parked_aggregates
from reconcile.pair import Pair, PodRun, Stage, Sweep, compare_pair, result_of
from reconcile.pairs import pairs_named
from reconcile.parked import ParkedAggregate
from reconcile.pod_reading import read_pod
from reconcile.residence import NOBODY, Moved
from reconcile.scoping import PodScope, Prepared, is_small, lacks_nothing, of_lake, prepare, write_ids
from reconcile.scratch import limit_reached, scratch
from reconcile.sweep import SweepPlan

OnProgress = Callable[[str], None]
"""Called with a sentence that says what the run does now."""
OnResults = Callable[[list[PairResult]], None]
"""Called after each stage with its results, while the later stages are not compared yet."""


def run_pairs(
    context: ReconcileContext,
    pairs: Collection[str] | None = None,
    pods: Collection[str] | None = None,
    on_progress: OnProgress | None = None,
    plans: Mapping[str, SweepPlan] | None = None,
) -> list[PairResult]:
    """Compare pairs (names or families such as ``oltp_lake``; all by default) in pods (all by default).

    Returns one result per pair and pod, in the register's order. An error in a comparison is not raised: the result
    then has the verdict `unknown` and the reason. Raises InputError for a pair or pod that does not exist.
    """
    return run_comparison(context, pairs, pods, on_progress, plans).results


def run_comparison(
    context: ReconcileContext,
    pairs: Collection[str] | None = None,
    pods: Collection[str] | None = None,
    on_progress: OnProgress | None = None,
    plans: Mapping[str, SweepPlan] | None = None,
    on_results: OnResults | None = None,
) -> Comparison:
    """Compare like `run_pairs`, and also return the totals of operations and finance.

    In a pod with a plan in `plans` the comparison is incremental: changed keys and a part of the rest; the results'
    `scope` says which. In other pods, and when a plan cannot be followed, it is complete. Figures are computed for the
    pods in which `journal_identities` was compared, because it reads their tables.
    """
    chosen = tuple(pair for pair in pairs_named(pairs) if pair.copy not in context.absent)
    run = _Run(context, chosen, _pods_named(context, pods), on_progress or (lambda _: None), plans or {}, on_results)
    return Comparison(results=run.results(), figures=run.figures)


def _pods_named(context: ReconcileContext, pods: Collection[str] | None) -> list[str]:
    unknown = sorted(set(pods or ()) - set(context.pods))
    if unknown:
        raise InputError(f"Pod {unknown[0]!r} is not configured; known pods: {', '.join(context.pods)}.")
    return [pod for pod in context.pods if pods is None or pod in pods]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The results and the figures of a run."""

    results: list[PairResult]
    figures: list[Figure]


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """Why a stage of a pod cannot be compared."""

    verdict: Verdict
    reason: str


class _Run:
    def __init__(
        self,
        context: ReconcileContext,
        pairs: Sequence[Pair],
        pods: Sequence[str],
        on_progress: OnProgress,
        plans: Mapping[str, SweepPlan],
        on_results: OnResults | None = None,
    ) -> None:
        self._tell = on_results or (lambda _: None)
        self._context = context
        self._pairs = pairs
        self._pods = pods
        self._say = on_progress
        self._plans = plans
        self._scopes: dict[str, PodScope] = {}
        self._cuts: dict[str, int] = {}
        self._moved: dict[str, Moved] = {}
        self._epochs: dict[str, datetime | None] = {}
        """Pod -> when the epoch of its cut was opened."""
        self._failures: dict[tuple[str, Stage], _Failure] = {}
        self._doubts: dict[str, str] = {}
        """Pod -> why the warehouse proves nothing, although it can be compared."""
        self._results: dict[tuple[str, str], PairResult] = {}
        self._parked: dict[str, list[ParkedAggregate]] = {}
        """Pod -> the aggregates that the lake had parked when this stage began."""
        self._moment: int | None = None
        self.figures: list[Figure] = []

    def results(self) -> list[PairResult]:
        try:
            self._moment = self._context.next_moment()
            with _workspace(self._context) as connection:
                prepared = self._prepare(connection)
                self._read_oltp(connection, prepared)
                for stage in Stage:
                    self._compare_stage(connection, stage)
                    self._tell(self._known(stage))
        except Exception as error:
            failure = _Failure(verdict=Verdict.UNKNOWN, reason=_sentence(error, self._context))
            for pair, pod in self._open(None):
                self._results[pair.name, pod] = self._failed(pair, pod, failure)
        return self._known(None)

    def _known(self, stage: Stage | None) -> list[PairResult]:
        """Return the results of a stage (None: of all), in the register's order."""
        return [
            replace(self._results[pair.name, pod], epoch_opened_at=self._epochs.get(pod))
            for pair in self._pairs
            for pod in self._pods
            if stage in (None, pair.stage)
        ]

    def _open(self, stage: Stage | None) -> Iterator[tuple[Pair, str]]:
        for pair in self._pairs:
            for pod in self._pods:
                if (stage is None or pair.stage is stage) and (pair.name, pod) not in self._results:
                    yield pair, pod

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> dict[str, Prepared]:
        """Read which aggregates changed in the lake; if the pod is not read, these are the scope."""
        prepared = {}
        for pod in [pod for pod in self._pods if pod in self._plans]:
            try:
                if is_small(self._context.pods[pod], self._context.whole_orders_max):
                    continue
                lake_cut = self._context.lake_cut(connection, pod)
                prepared[pod] = prepare(connection, pod, self._context.pods[pod], self._plans[pod], lake_cut)
                self._look_at(connection, pod, of_lake(prepared[pod]))
            except Exception as error:  # the next read of the same store reports its error
                self._say(f"Everything of {pod} is compared: {_sentence(error, self._context)}")
        return prepared

    def _look_at(self, connection: duckdb.DuckDBPyConnection, pod: str, scope: PodScope | None) -> None:
        self._scopes.pop(pod, None)
        if scope is not None:
            write_ids(connection, pod, scope.aggregates.ids)
            self._scopes[pod] = scope

    def _read_oltp(self, connection: duckdb.DuckDBPyConnection, prepared: Mapping[str, Prepared]) -> None:
        if all(pair.stage is Stage.OWN for pair in self._pairs):
            return
        for pod in self._pods:
            self._say(f"Reading {pod} at a new cut.")
            try:
                opened, scope = read_pod(self._context, connection, pod, self._pairs, prepared.get(pod))
                self._cuts[pod], self._epochs[pod], self._moved[pod] = opened
                self._look_at(connection, pod, scope)
            except Exception as error:
                reason = f"{pod} could not be read at a cut: {_sentence(error, self._context)}"
                for stage in (Stage.OLTP, Stage.LAKE, Stage.WAREHOUSE):
                    self._failures[pod, stage] = _Failure(verdict=Verdict.UNKNOWN, reason=reason)

    def _compare_stage(self, connection: duckdb.DuckDBPyConnection, stage: Stage) -> None:
        waiting = [pod for pod in self._pods if any(pod == other for _, other in self._open(stage))]
        ready = [pod for pod in waiting if (pod, stage) not in self._failures]
        self._parked.clear()
        if ready and stage is Stage.LAKE:
            for pod in ready:
                self._await_lake(connection, pod, is_enough=partial(self._lacks_nothing, pod))
        if ready and stage is Stage.WAREHOUSE:
            self._await_build(connection, {pod: self._cuts[pod] for pod in ready})
        for pair, pod in list(self._open(stage)):
            self._say(f"Comparing {pair.name} in {pod}.")
            failure = self._failures.get((pod, stage))
            self._results[pair.name, pod] = (
                self._failed(pair, pod, failure) if failure else self._compare(connection, pair, pod)
            )

    def _lacks_nothing(self, pod: str, reached: int) -> bool:
        """Return whether a lake at this cut has all events of what this run compares with it, if that is only keys."""
        found, dsn = self._scopes.get(pod), self._context.pods[pod]
        if found is None or found.aggregates.has_changes or self._moved.get(pod, NOBODY):
            return False
        cuts = found.cuts if any(pair.sweep is Sweep.CUTS and pair.stage is Stage.LAKE for pair in self._pairs) else ()
        if any(through > reached for _, through in cuts):
            return False
        return lacks_nothing(dsn, cut=self._cuts[pod], reached=reached, ids=found.aggregates.ids)

    def _await_lake(
        self,
        connection: duckdb.DuckDBPyConnection,
        pod: str,
        *,
        is_enough: Callable[[int], bool] = lambda _reached: False,
    ) -> None:
        """Wait until the lake has the pod's cut, or as much of it as is enough."""
        cut, lake = self._cuts[pod], copy_named("lake")
        # If the log has lost entries, the lake waits for their repair, and the repair begins only after this run. So
        # wait only briefly.
        is_waiting = any(
            pair.copy == "log" and result.verdict is Verdict.INCONSISTENT
            for pair in self._pairs
            if (result := self._results.get((pair.name, pod))) is not None
        )
        allowed = float(lake.freshness_seconds if is_waiting else lake.late_seconds_max)
        reached = -1

        def has_arrived() -> bool:
            nonlocal reached
            reached = self._context.lake_cut(connection, pod)
            return reached >= cut or is_enough(reached)

        try:
            if not wait_for(self._context, has_arrived, allowed):
                self._failures[pod, Stage.LAKE] = _Failure(
                    verdict=Verdict.LATE, reason=f"The lake has cut {reached} of {pod}, not yet cut {cut}."
                )
        except Exception as error:
            reason = f"How far the lake is could not be found out: {_sentence(error, self._context)}"
            self._failures[pod, Stage.LAKE] = _Failure(verdict=Verdict.UNKNOWN, reason=reason)

    def _await_build(self, connection: duckdb.DuckDBPyConnection, cuts: Mapping[str, int]) -> None:
        """Wait until the lake has the cuts of all pods, then build the warehouse to these cuts in one build."""
        for pod in cuts:
            if (pod, Stage.LAKE) not in self._failures:
                self._await_lake(connection, pod)
            if (pod, Stage.LAKE) in self._failures:
                self._failures[pod, Stage.WAREHOUSE] = self._failures[pod, Stage.LAKE]
        wanted = {pod: cut for pod, cut in cuts.items() if (pod, Stage.WAREHOUSE) not in self._failures}
        if not wanted:
            return
        self._say("Bringing the warehouse to the cuts.")
        failures, doubt = _built(self._context, wanted)
        for pod in wanted:
            if pod in failures:
                self._failures[pod, Stage.WAREHOUSE] = failures[pod]
            elif doubt:
                self._doubts[pod] = doubt

    def _compare(self, connection: duckdb.DuckDBPyConnection, pair: Pair, pod: str) -> PairResult:
        started = self._context.monotonic()
        if pair.stage is Stage.OWN:  # the last stage, which has read nothing before
            self._moment = self._context.next_moment()
        run = PodRun(
            context=self._context,
            connection=connection,
            pod=pod,
            cut=self._cuts.get(pod, 0),
            scope=self._scopes[pod].aggregates if pod in self._scopes else None,
            cut_ranges=self._scopes[pod].cuts if pod in self._scopes else (),
            parked=partial(self._parked_in, connection, pod),
            moved=self._moved.get(pod, NOBODY),
            is_lake_late=(pod, Stage.LAKE) in self._failures,
        )
        try:
            findings = compare_pair(pair, run)
            if pair.has_figures:
                self.figures += figures_of(run)
        except LateError as late:
            failure = _Failure(verdict=Verdict.LATE, reason=_sentence(late, self._context))
            return self._failed(pair, pod, failure, started)
        except Exception as error:  # any other error says nothing about the data
            failure = _Failure(verdict=Verdict.UNKNOWN, reason=_sentence(error, self._context))
            return self._failed(pair, pod, failure, started)
        result = result_of(pair, pod, findings, self._cuts.get(pod), self._context)
        doubt = self._doubts.get(pod, "") if pair.stage is Stage.WAREHOUSE else ""
        if doubt:
            # Differences are reported, but "consistent" is no pass while the warehouse's own tests fail.
            is_pass = result.verdict is Verdict.CONSISTENT
            result = replace(result, verdict=Verdict.UNKNOWN if is_pass else result.verdict, reason=doubt)
        seconds = round(self._context.monotonic() - started, 3)
        scope = None if findings.is_whole else self._scope(pair, pod)
        return replace(result, seconds=seconds, scope=scope, moment=self._moment)

    def _parked_in(self, connection: duckdb.DuckDBPyConnection, pod: str) -> list[ParkedAggregate]:
        if pod not in self._parked:
            self._parked[pod] = parked_aggregates(connection, pod)
        return self._parked[pod]

    def _scope(self, pair: Pair, pod: str) -> Scope | None:
        """Return the scope of a pair's comparison; None: everything."""
        found = self._scopes.get(pod)
        if found is None or pair.sweep is Sweep.WHOLE:
            return None
        return found.log if pair.sweep is Sweep.CUTS else found.aggregates

    def _failed(self, pair: Pair, pod: str, failure: _Failure, started: float | None = None) -> PairResult:
        seconds = 0.0 if started is None else round(self._context.monotonic() - started, 3)
        return PairResult(
            pair=pair.name,
            pod=pod,
            verdict=failure.verdict,
            cut=None if pair.stage is Stage.OWN else self._cuts.get(pod),
            checked_at=self._context.now(),
            seconds=seconds,
            reason=failure.reason,
            moment=self._moment,
        )


@contextmanager
def _workspace(context: ReconcileContext) -> Iterator[duckdb.DuckDBPyConnection]:
    if context.scratch_folder is not None:
        context.scratch_folder.mkdir(parents=True, exist_ok=True)
    with (
        context.open_lake() as connection,
        scratch(
            connection,
            memory_limit_mb=context.memory_limit_mb,
            disk_limit_mb=context.disk_limit_mb,
            folder=context.scratch_folder,
        ) as ready,
    ):
        yield ready


def _built(context: ReconcileContext, wanted: Mapping[str, int]) -> tuple[dict[str, _Failure], str]:
    """Build the warehouse.

    Return (pod -> why it cannot be compared, why the build proves nothing or an empty text).
    """
    if context.build is None:
        reason = "The warehouse cannot be looked at: this run was given nothing that builds it."
        return dict.fromkeys(wanted, _Failure(verdict=Verdict.UNKNOWN, reason=reason)), ""
    doubt = ""
    try:
        stands = context.build(wanted)
    except UnprovenBuildError as error:
        stands, doubt = error.cuts, _sentence(error, context)
    except Exception as error:
        reason = f"The warehouse could not be built: {_sentence(error, context)}"
        return dict.fromkeys(wanted, _Failure(verdict=Verdict.UNKNOWN, reason=reason)), ""
    late = {
        pod: _Failure(
            verdict=Verdict.LATE, reason=f"The warehouse stands at cut {stands.get(pod)} of {pod}, not yet at {cut}."
        )
        for pod, cut in wanted.items()
        if stands.get(pod, 0) < cut
    }
    return late, doubt


def _sentence(error: Exception, context: ReconcileContext) -> str:
    """Return an error as one line without secrets; with its type, unless it is a TieoutError."""
    # Scrub before truncating, because a truncated password would not be recognized.
    text = context.scrub(one_line(error))[:500] or "no message"
    return text if isinstance(error, TieoutError) else f"{limit_reached(error)}{type(error).__name__}: {text}"
