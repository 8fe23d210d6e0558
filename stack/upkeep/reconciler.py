"""The reconciler: a worker that compares all the time, within a share of one processor.

It goes round after round. What a witness saw is compared first, and at once: also between two pairs of another round,
and on credit that the rounds after it pay back. Otherwise a round compares what changed,
what has breaks, and the next part of the sweep; every FINANCE_SECONDS a round also builds the warehouse and compares
finance's side. A round begins only when the share has earned the time that the rounds before it took, and the process
runs at low priority, so commands come first. No snapshot is open while a round waits (`reconcile/comparison_run.py`).

Belongs here: which round is next, and what it takes. Does not belong here: comparing (`reconcile/`), the arithmetic of
the share (`stack/upkeep/cpu_share.py`), repairs.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

import psycopg

from contracts.clock import Clock, utc_now
from contracts.events import STATE_TYPES
from contracts.ownership import LAKE, LOG, OWNER_FAMILIES, WAREHOUSE, absent_copies, copy_named, family_of
from contracts.settings import Settings
from contracts.sightings import KeptSighting, SightingKind
from reconcile.comparison_run import OnProgress, run_comparison
from reconcile.connections import Connections
from reconcile.context import ReconcileContext
from reconcile.entities import tables_of
from reconcile.pairs import PAIRS
from reconcile.rounds import Round, keep_round
from reconcile.sightings import is_waiting, mark_compared, waiting_sightings
from reconcile.sweep import SeenKeys, SweepPlan
from repair.ledger import groups
from repair.sweeping import plans_for
from stack.composition.builder import warm_builder
from stack.composition.comparison import build_reconcile_context
from stack.composition.reconciling import Reconciled, kept, needs_builds
from stack.scrubbing import scrubber
from stack.upkeep.cpu_share import SAVED_SECONDS_MAX, CpuShare
from stack.upkeep.growth import is_too_large

LOOK_SECONDS = 0.5
"""How often it looks for sightings."""
FINANCE_SECONDS = 300.0
"""The warehouse is built and compared about this often, besides what witnesses ask for."""
AGAIN_SECONDS, AGAIN_SECONDS_MAX = 10.0, 600.0
"""A sighting whose comparison said nothing of it is compared again after this time, then after twice as long."""
NICENESS = 10

STORED_TABLES = frozenset().union(*(pair.stored_tables for pair in PAIRS))

logger = logging.getLogger("tieout.reconciler")


class RoundKind(StrEnum):
    """What a round compares."""

    SEEN = "seen"
    """What witnesses saw."""
    CHANGES = "changes"
    """What changed, what has breaks, and a part of the rest; without the warehouse."""
    FINANCE = "finance"
    """The same, and finance's side: the warehouse is built first."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the sightings of one pod ask for: pairs, and the aggregates to look at; `ids` None: all."""

    pod: str
    pairs: tuple[str, ...]
    ids: frozenset[str] | None
    sighting_ids: tuple[int, ...]
    cuts: tuple[tuple[int, int], ...] = ()
    """Ranges of cuts (after, through] in which the log is looked at besides, with `ids`."""


def pairs_for(sighting: KeptSighting) -> tuple[str, ...]:
    """Return the pairs that find what a sighting may have changed: those of its copy, or of what OLTP is compared with.

    A write to OLTP shows in OLTP's own identities, in its outbox against the log, and against the lake. A write to a
    table of an aggregate's state shows only in the pairs that read this table, an event of the lake in those of its
    aggregate's type and in what passed through the log, and a row that the warehouse stores in the pair of its table.
    """
    own = (*OWNER_FAMILIES, *LOG.found_by, *LAKE.found_by)
    families = own if sighting.copy is None else copy_named(sighting.copy).found_by
    asked = [pair for pair in PAIRS if family_of(pair.name) in families]
    if sighting.copy is None and any(sighting.place in tables_of(kind) for kind in STATE_TYPES):
        asked = [pair for pair in asked if sighting.place in pair.oltp_tables]
    elif sighting.kind is SightingKind.UNANNOUNCED and sighting.place in STORED_TABLES:
        asked = [pair for pair in asked if sighting.place in pair.stored_tables]
    elif sighting.copy == LAKE.name and sighting.aggregate_type is not None:
        asked = [pair for pair in asked if not pair.aggregate_types or sighting.aggregate_type in pair.aggregate_types]
    return tuple(pair.name for pair in asked)


def targets(sightings: Sequence[KeptSighting], pods: Sequence[str]) -> list[Target]:
    """Return what to compare for sightings: first what names its aggregates, one target per pod; then one per pod and
    copy in which all must be compared, those of few pairs first.
    """
    found = []
    for pod in pods:
        mine = [one for one in sightings if one.pod in (pod, "")]
        keyed = [one for one in mine if one.aggregate_id is not None]
        rest = [one for one in mine if one.aggregate_id is None]
        copies = dict.fromkeys(one.copy for one in rest)
        alike = [keyed, *([one for one in rest if one.copy == copy] for copy in copies)]
        found += [_target(pod, some) for some in alike if some]
    return sorted(found, key=lambda target: 0 if target.ids is not None else len(target.pairs))


def _target(pod: str, sightings: Sequence[KeptSighting]) -> Target:
    named = {pair for one in sightings for pair in pairs_for(one)}
    ids = frozenset(one.aggregate_id for one in sightings if one.aggregate_id is not None)
    return Target(
        pod=pod,
        pairs=tuple(pair.name for pair in PAIRS if pair.name in named),
        ids=ids or None,
        cuts=tuple(sorted({one.cuts for one in sightings if one.cuts is not None})),
        sighting_ids=tuple(one.sighting_id for one in sightings),
    )


def cpu_seconds() -> float:
    """Return the processor time of this process and of its ended children, in seconds."""
    mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime


@dataclass(frozen=True, kw_only=True)
class Tried:
    """How often a sighting was compared without an answer, and when it is compared again."""

    times: int
    again_at: float


@dataclass(kw_only=True)
class Reconciler:
    """Compares all the time; `step` does what is next, or nothing while the share is used up."""

    settings: Settings
    share: CpuShare
    clock: Clock = utc_now
    monotonic: Callable[[], float] = time.monotonic
    cpu_seconds: Callable[[], float] = cpu_seconds
    connections: Connections = field(default_factory=Connections)
    build_context: Callable[..., ReconcileContext] = build_reconcile_context
    finance_at: float | None = None
    """When the last round with finance's side ended; before the first: when the reconciler began."""
    paid: float = 0.0
    """Processor seconds that were taken off the share."""
    at_work: frozenset[int] = frozenset()
    """The sightings that a round is comparing now."""
    depth: int = 0
    """How many rounds are under way: one, or one between two pairs of another."""
    tried: dict[int, Tried] = field(default_factory=dict)
    """Sighting -> the comparisons that said nothing of it."""

    def step(self) -> RoundKind | None:
        """Run the round that is due, if the share allows it; return its kind."""
        now = self.monotonic()
        if self.finance_at is None:
            self.finance_at = now
        if self._look(now):
            return RoundKind.SEEN
        if not self.share.may_begin():
            return None
        if now - self.finance_at >= FINANCE_SECONDS:
            self._round(RoundKind.FINANCE, lambda: self._compare_all(with_finance=True))
            self.finance_at = self.monotonic()
            return RoundKind.FINANCE
        self._round(RoundKind.CHANGES, lambda: self._compare_all(with_finance=False))
        return RoundKind.CHANGES

    def _look(self, now: float) -> bool:
        """Compare what witnesses have seen, if the share allows it; return whether there was anything."""
        self.share.earn(now)
        seen = self._due(now) if self.share.may_begin(is_urgent=True) else []
        if seen:
            others = self.at_work
            self.at_work = others | {one.sighting_id for one in seen}
            try:
                self._round(RoundKind.SEEN, lambda: self._compare_seen(seen))
            finally:
                self.at_work = others
        return bool(seen)

    def _look_between(self, _said: str) -> None:
        """Look between two steps of a longer round, in which no snapshot is open."""
        if self.depth > 1:
            return
        with suppress(psycopg.Error):  # the next step meets the same error, and says it
            self._look(self.monotonic())

    def _due(self, now: float) -> list[KeptSighting]:
        if not is_waiting(self.connections.to(self.settings.control_dsn)):
            return []
        waiting = waiting_sightings(self.settings.control_dsn)
        self.tried = {one.sighting_id: self.tried[one.sighting_id] for one in waiting if one.sighting_id in self.tried}
        free = [one for one in waiting if one.sighting_id not in self.at_work]
        return [one for one in free if one.sighting_id not in self.tried or self.tried[one.sighting_id].again_at <= now]

    def _round(self, kind: RoundKind, work: Callable[[], tuple[int, float]]) -> None:
        """Run one round, take what it used off the share, and store what it took."""
        began, used, paid, trouble, compared, swept = self.clock(), self.cpu_seconds(), self.paid, "", 0, 0.0
        self.depth += 1
        try:
            compared, swept = work()
        except Exception as error:  # any error: the next round may succeed; the table and the log say what it was
            trouble = scrubber(self.settings)(" ".join(f"{type(error).__name__}: {error}".split()))
            logger.warning("The round %s could not compare: %s", kind, trouble)
        finally:
            self.depth -= 1
        # Without what a round in between has taken.
        spent = self.cpu_seconds() - used - (self.paid - paid)
        self.share.spend(spent)
        self.paid += spent
        keep_round(
            self.settings.control_dsn,
            Round(
                kind=kind,
                began_at=began,
                ended_at=self.clock(),
                cpu_seconds=round(spent, 3),
                comparisons=compared,
                swept_share=swept,
                trouble=trouble,
            ),
        )

    def _compare_all(self, *, with_finance: bool) -> tuple[int, float]:
        """Compare all pairs (without finance: those that need no build) incrementally; return (results, swept)."""
        pairs = [pair.name for pair in PAIRS if with_finance or pair.copy != WAREHOUSE.name]
        pods = [pod.pod for pod in self.settings.pods]
        plans = plans_for(self.settings.control_dsn, pods, pairs, self.clock(), absent=absent_copies(self.settings))
        found = self._compare(pairs, pods, plans, self._look_between)
        swept = min((plans[pod].share if pod in plans else 1.0 for pod in pods), default=0.0)
        return len(found.results), swept

    def _compare_seen(self, seen: Sequence[KeptSighting]) -> tuple[int, float]:
        """Compare what sightings name, pod by pod, and mark the answered ones; return (results, 0: nothing swept)."""
        unanswered: set[int] = set()
        compared, dsn = 0, self.settings.control_dsn
        for target in targets(seen, [pod.pod for pod in self.settings.pods]):
            plans: Mapping[str, SweepPlan] = {}
            if target.ids is not None:
                seen_now = {target.pod: SeenKeys(ids=target.ids, cuts=target.cuts)}
                absent = absent_copies(self.settings)
                plans = plans_for(dsn, [target.pod], target.pairs, self.clock(), seen=seen_now, absent=absent)
            # A complete comparison is long: what is seen meanwhile does not wait for it.
            look = self._look_between if target.ids is None else None
            results = self._compare(target.pairs, [target.pod], plans, look).results
            compared += len(results)
            if not all(result.is_of_keys for result in results):
                unanswered |= set(target.sighting_ids)
        for sighting_id in unanswered:
            self._try_again(sighting_id)
        self._mark([one for one in seen if one.sighting_id not in unanswered])
        return compared, 0.0

    def _try_again(self, sighting_id: int) -> None:
        before = self.tried.get(sighting_id)
        times = 1 if before is None else before.times + 1
        pause = min(AGAIN_SECONDS * 2 ** (times - 1), AGAIN_SECONDS_MAX)
        self.tried[sighting_id] = Tried(times=times, again_at=self.monotonic() + pause)

    def _mark(self, answered: Sequence[KeptSighting]) -> None:
        """Record which incidents are open for the copies and pods of answered sightings."""
        incidents = groups(self.settings.control_dsn)
        alike: dict[tuple[frozenset[str], str], list[int]] = {}
        for one in answered:
            alike.setdefault((frozenset(pairs_for(one)), one.pod), []).append(one.sighting_id)
        for (pairs, pod), sighting_ids in alike.items():
            concerned = [item.group_id for item in incidents if item.pair in pairs and pod in (item.pod, "")]
            mark_compared(self.settings.control_dsn, sighting_ids, self.clock(), group_ids=concerned)

    def _compare(
        self,
        pairs: Collection[str],
        pods: Sequence[str],
        plans: Mapping[str, SweepPlan],
        on_progress: OnProgress | None = None,
    ) -> Reconciled:
        run = f"reconciler {self.clock():%Y-%m-%dT%H:%M:%S.%f}Z"
        with ExitStack() as stack:
            build = None
            if needs_builds(list(pairs)):
                build = stack.enter_context(warm_builder(self.settings)).build_to
            # A small pod is compared incrementally, too: these rounds never end, so that each must cost little.
            context = replace(self.build_context(self.settings, build=build), whole_orders_max=0)
            comparison = run_comparison(context, pairs, pods, on_progress, plans)
        return kept(self.settings, comparison, run=run)


def run_reconciler(settings: Settings, stop: threading.Event) -> bool:
    """Compare until `stop` is set; return whether the process is to begin anew, because it has grown too large.

    Between two rounds it holds one idle connection, to the control database, and no snapshot.
    """
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    earned = settings.reconciler_cpu_percent / 100
    # It begins with a debt: the first pass of `make run` compares everything itself, and is not to share the processor.
    share = CpuShare(share=earned, at=time.monotonic(), credit=-SAVED_SECONDS_MAX * earned)
    reconciler = Reconciler(settings=settings, share=share)
    clean, last = scrubber(settings), ""
    while not stop.wait(LOOK_SECONDS):
        try:
            ran = reconciler.step()
            last = ""
        except Exception as error:  # any error, e.g. the control database is away: the next attempt may succeed
            said = clean(f"{type(error).__name__}: {error}")
            if said != last:
                logger.warning("It is tried again every %g s: %s", LOOK_SECONDS, said)
            last = said
            continue
        if ran is not None and is_too_large(settings.reconciler_memory_mb):
            logger.info("It holds more memory than TIEOUT_RECONCILER_MEMORY_MB allows, and begins anew")
            return not stop.is_set()
    return False
