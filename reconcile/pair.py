"""The type of a pair: two stores that must agree, how they are compared, and what the comparison cannot find.

Belongs here: the type, comparing one pair within its memory limit, and making a result from its findings. Does not
belong here: which pairs exist (`reconcile/pairs.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import duckdb

from contracts.memory import peak_memory_mb
from contracts.ownership import copy_named
from contracts.scope import Scope
from contracts.verdicts import DifferenceClass, PairResult, Verdict
from reconcile.compare import Outcome
from reconcile.context import ReconcileContext
from reconcile.entities import tables_in, tables_of
from reconcile.parked import ParkedAggregate
from reconcile.residence import NOBODY, Moved
from reconcile.scoping import restricted
from reconcile.scratch import single_threaded
from reconcile.shapes import Shape


class Stage(StrEnum):
    """The condition for comparing a pair; a run goes through the stages in this order."""

    OLTP = "oltp"
    """Both sides were read at the cut."""
    LAKE = "lake"
    """The lake has the cut completely."""
    WAREHOUSE = "warehouse"
    """The warehouse was built at the cut or a later one."""
    OWN = "own"
    """There is no condition: the copy keeps no history, so both sides are compared at the copy's own positions."""


class Sweep(StrEnum):
    """What an incremental run compares."""

    AGGREGATES = "what changed, what has breaks, and a rotating range of all aggregates"
    CUTS = "the cuts since the last run, and a rotating range of the others; with breaks, everything"
    WHOLE = "everything: the sums are made where the rows are"


@dataclass(frozen=True, kw_only=True)
class PodRun:
    """One pod in one run: its cut, and the connection whose scratch tables hold OLTP at that cut."""

    context: ReconcileContext
    connection: duckdb.DuckDBPyConnection
    pod: str
    cut: int
    scope: Scope | None = None
    """The aggregates that are compared; None: all."""
    cut_ranges: tuple[tuple[int, int], ...] = ()
    """The cuts (after, through] of the log that are compared; empty: all."""

    parked: Callable[[], Sequence[ParkedAggregate]] = tuple
    """Returns the aggregates that the lake had parked when it reached the cut. An aggregate that was applied since then
    is still late in this run, so that it is not reported as a false difference.
    """
    moved: Moved = NOBODY
    """The merchants that have moved, away from this pod or to it."""
    is_lake_late: bool = False
    """Whether this run has already waited for the lake without success; then it does not wait again."""

    def in_scope(self, relation: str, column: str) -> str:
        """Return the rows of a DuckDB relation whose aggregate (its id is `column`) is in the scope, as a relation."""
        return restricted(self.pod, self.scope, relation, column)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What comparing a pair in a pod found. `cut` and `cut_vector` are set when the copy's own positions were used."""

    outcomes: Sequence[Outcome]
    cut: int | None = None
    cut_vector: Mapping[str, str] = field(default_factory=dict)
    late_aggregates: Sequence[str] = ()
    """Keys of the aggregates that were left out, because the copy has them parked."""
    late_reason: str = ""
    """Why the copy is late, even if everything that was compared agrees."""
    is_whole: bool = False
    """Whether the comparison was complete although the run is incremental."""
    is_memory_short: bool = False
    """Whether the memory limit allowed only one thread."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two stores that must agree on the same facts."""

    name: str
    left: str
    """Describes the owner's side."""
    right: str
    """Describes the copy's side."""
    description: str
    cannot_catch: str
    copy: str | None
    """The copy's name in `contracts/ownership.py`, which has its largest allowed lag; None when both sides are OLTP."""
    stage: Stage
    shapes: tuple[Shape, ...]
    """The shapes that are compared: key and columns per table."""
    compare: Callable[[PodRun], Findings]
    aggregate_types: tuple[str, ...] = ()
    """The aggregate types whose tables are read from OLTP at the cut."""
    sweep: Sweep = Sweep.AGGREGATES
    """What an incremental run compares."""
    has_figures: bool = False
    """Whether the totals of `reconcile/figures.py` can be computed from the tables that it reads."""
    stored_tables: Mapping[str, str] = field(default_factory=dict)
    """The tables of the copy, each with its schema, that are compared as they are stored; of a copy whose tables other
    pairs see only through its views. Table -> the column that says whose a row is: an aggregate's id, or `event_id`.
    """
    queries: Mapping[str, str] = field(default_factory=dict)
    """Other rows that are read from OLTP at the cut: name -> PostgreSQL query. Its placeholders are ``{cut}``,
    ``{epoch}`` (the cut's, as a literal), ``{partition_count}`` and ``{of_cuts}`` (the condition that an outbox row may
    belong to the compared cuts).
    """

    @property
    def oltp_tables(self) -> frozenset[str]:
        """The tables of OLTP that it reads at the cut; what is written to another table cannot show in its result."""
        of_types = (tables_of(kind) for kind in self.aggregate_types)
        return frozenset().union(*of_types, *(tables_in(query) for query in self.queries.values()))

    @property
    def lag_seconds_max(self) -> float:
        """The largest allowed lag of the copy, in seconds; beyond it the pair is late."""
        return float(copy_named(self.copy).late_seconds_max) if self.copy else 0.0


def compare_pair(pair: Pair, run: PodRun) -> Findings:
    """Compare a pair; if DuckDB runs out of memory, retry once with one thread."""
    try:
        return pair.compare(run)
    except duckdb.OutOfMemoryException:
        with single_threaded(run.connection):
            return replace(pair.compare(run), is_memory_short=True)


def result_of(pair: Pair, pod: str, findings: Findings, cut: int | None, context: ReconcileContext) -> PairResult:
    """Return the result of a pair, computed from its findings."""
    outcomes = findings.outcomes
    classes = {kind: sum(outcome.classes.get(kind, 0) for outcome in outcomes) for kind in DifferenceClass}
    compared = sum(outcome.compared for outcome in outcomes)
    verdict = Verdict.INCONSISTENT if any(classes.values()) else Verdict.CONSISTENT
    reason = "" if compared else "Both sides are empty: 0 rows were compared."
    if findings.late_reason:
        reason = findings.late_reason
        verdict = Verdict.LATE if verdict is Verdict.CONSISTENT else verdict
    return PairResult(
        pair=pair.name,
        pod=pod,
        verdict=verdict,
        cut=cut if findings.cut is None else findings.cut,
        cut_vector=dict(findings.cut_vector),
        compared=compared,
        missing=classes[DifferenceClass.MISSING],
        extra=classes[DifferenceClass.EXTRA],
        different=sum(outcome.different for outcome in outcomes),
        duplicates=classes[DifferenceClass.DUPLICATE],
        classes={kind.value: number for kind, number in classes.items() if number},
        levels=tuple(level for outcome in outcomes for level in outcome.levels),
        segments_compared=sum(outcome.segments_compared for outcome in outcomes),
        segments_different=sum(outcome.segments_different for outcome in outcomes),
        sample=tuple(difference for outcome in outcomes for difference in outcome.sample),
        late_keys=len(findings.late_aggregates),
        late_aggregates=tuple(findings.late_aggregates[: context.limits.sample]),
        checked_at=context.now(),
        seconds=0.0,
        reason=reason,
        peak_memory_mb=round(peak_memory_mb(), 1),
        is_memory_short=findings.is_memory_short,
    )
