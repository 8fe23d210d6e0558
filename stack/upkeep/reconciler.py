"""The reconciler: what it compares next, within a share of one processor.

It goes round after round. What a witness saw is compared first, and at once: also between two pairs of another round,
and on credit that the rounds after it pay back. Otherwise a round compares what changed,
what has breaks, and the next part of the sweep; every FINANCE_SECONDS a round also builds the warehouse and compares
finance's side. A break of finance's side does not wait for that when what it depends on has changed: it is compared
again alone. Rounds with a build take a loan (`cpu_share.py`), so that they slow the others and never stop them. A round
begins only when the share has earned the time that the rounds before it took. No snapshot is open while a round waits
(`reconcile/comparison_run.py`).

Belongs here: which round is next, and what it takes. Does not belong here: the worker and its two lanes
(`stack/upkeep/reconciler_lanes.py`), what a sighting asks for (`stack/upkeep/asked.py`), which breaks are due again
(`stack/upkeep/again.py`), comparing (`reconcile/`), the arithmetic of the share (`stack/upkeep/cpu_share.py`), repairs.
"""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

import duckdb
import psycopg

from contracts.clock import Clock, utc_now
from contracts.errors import TieoutError
from contracts.ownership import absent_copies
from contracts.settings import Settings
from contracts.sightings import KeptSighting
from reconcile.changed_rows import is_narrowable, narrowed
from reconcile.comparison_run import OnProgress, run_comparison
from reconcile.connections import Connections
from reconcile.context import ReconcileContext
from reconcile.pair import Sweep
from reconcile.pairs import PAIRS
from reconcile.rounds import Round, keep_round
from reconcile.sightings import is_waiting, mark_compared, waiting_sightings
from reconcile.sweep import SeenKeys, SweepPlan
from repair.ledger import groups
from repair.sweeping import plans_for
from stack.composition.comparison import build_reconcile_context
from stack.composition.kept_builder import KeptBuilder
from stack.composition.reconciling import Keeper, Reconciled, needs_builds
from stack.scrubbing import scrubber
from stack.upkeep.again import OF_WAREHOUSE, Again
from stack.upkeep.asked import pairs_for, targets
from stack.upkeep.cpu_share import CpuShare

CHANGES_SECONDS_MAX = 120.0
"""A round of what changed that has waited so long begins on credit, too: else much that was seen would put it off."""
FINANCE_SECONDS = 300.0
"""The warehouse is built and compared about this often, besides what witnesses ask for."""
AGAIN_SECONDS, AGAIN_SECONDS_MAX = 10.0, 600.0
"""A sighting whose comparison said nothing of it is compared again after this time, then after twice as long."""

logger = logging.getLogger("tieout.reconciler")


class RoundKind(StrEnum):
    """What a round compares."""

    SEEN = "seen"
    """What witnesses saw."""
    CHANGES = "changes"
    """What changed, what has breaks, and a part of the rest; without the warehouse."""
    AGAIN = "again"
    """Finance's breaks, when something that they depend on has changed; the warehouse is built first."""
    FINANCE = "finance"
    """The same as `changes`, and finance's side: the warehouse is built first."""


BUILDING = frozenset({RoundKind.AGAIN, RoundKind.FINANCE})
"""The rounds that build the warehouse first."""


def cpu_seconds() -> float:
    """Return the processor time of this process, in seconds."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    return mine.ru_utime + mine.ru_stime


def ended_cpu_seconds() -> float:
    """Return the processor time of this process's ended children, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


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
    ended_cpu_seconds: Callable[[], float] = ended_cpu_seconds
    connections: Connections = field(default_factory=Connections)
    build_context: Callable[..., ReconcileContext] = build_reconcile_context
    builder: KeptBuilder | None = None
    """Builds the warehouse, and outlives the rounds; None: each round that needs builds starts its own."""
    give_way: Callable[[], None] | None = None
    """Waits between two steps of a longer round while another lane compares; None: it looks for sightings itself."""
    changes_at: float | None = None
    """When the last round of what changed ended; before the first: when the reconciler began."""
    finance_at: float | None = None
    """When the last round with finance's side ended; before the first: when the reconciler began."""
    at_work: frozenset[int] = frozenset()
    """The sightings that a round is comparing now."""
    depth: int = 0
    """How many rounds are under way: one, or one between two pairs of another."""
    tried: dict[int, Tried] = field(default_factory=dict)
    """Sighting -> the comparisons that said nothing of it."""
    again: Again = field(init=False)
    """Which breaks of finance's side are due before its next round."""

    def __post_init__(self) -> None:
        """Begin with every such break due once."""
        self.again = Again(settings=self.settings, connections=self.connections, clock=self.clock)

    def step(self) -> RoundKind | None:
        """Run the round that is due, if the share allows it; return its kind."""
        return self.look() or self.go_round()

    def look(self) -> RoundKind | None:
        """Compare what witnesses have seen, if the share allows it; return the kind of the round, if there was one."""
        return RoundKind.SEEN if self._look(self.monotonic()) else None

    def go_round(self) -> RoundKind | None:
        """Run the round that no witness asked for, if the share allows it; return its kind."""
        now = self.monotonic()
        if self.finance_at is None or self.changes_at is None:
            self.finance_at = self.changes_at = now
        self.share.earn(now)
        if self.share.may_borrow() and now - self.finance_at >= FINANCE_SECONDS:
            self._round(RoundKind.FINANCE, lambda: self._compare_all(with_finance=True))
            self.finance_at = self.changes_at = self.monotonic()
            return RoundKind.FINANCE
        if self._compare_due(now):
            return RoundKind.AGAIN
        if not self.share.may_begin(is_urgent=now - self.changes_at >= CHANGES_SECONDS_MAX):
            return None
        self._round(RoundKind.CHANGES, lambda: self._compare_all(with_finance=False))
        self.changes_at = self.monotonic()
        return RoundKind.CHANGES

    def _compare_due(self, now: float) -> bool:
        """Compare the breaks of finance's side that are due again, if there are any; return whether there were."""
        due = self.again.due(now) if self.share.may_borrow(is_urgent=True) else {}
        if not due:
            return False
        ended = 0

        def work() -> tuple[int, float]:
            nonlocal ended
            found = self._compare_again(due)
            ended = found.recorded.breaks_ended
            return len(found.results), 0.0

        spent = self._round(RoundKind.AGAIN, work)
        self.again.rest(self.monotonic(), spent, self.share.share, has_ended=ended > 0, seconds_max=FINANCE_SECONDS)
        return True

    def _look(self, now: float) -> bool:
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
        if self.give_way is not None:
            self.give_way()
            return
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

    def _round(self, kind: RoundKind, work: Callable[[], tuple[int, float]]) -> float:
        """Run one round, take what it used off the share, store what it took; return that in processor seconds."""
        began, used, paid, trouble, compared, swept = self.clock(), self.cpu_seconds(), self.share.spent, "", 0, 0.0
        built = self._built()
        self.depth += 1
        try:
            compared, swept = work()
        except Exception as error:  # any error: the next round may succeed; the table and the log say what it was
            trouble = scrubber(self.settings)(" ".join(f"{type(error).__name__}: {error}".split()))
            logger.warning("The round %s could not compare: %s", kind, trouble)
        finally:
            self.depth -= 1
        # Without what a round in between, or of another lane, has taken.
        spent, elsewhere = max(self.cpu_seconds() - used - (self.share.spent - paid), 0.0), 0.0
        if kind in BUILDING:
            elsewhere = self._built() - built
            self.share.lend(spent, elsewhere)
        else:
            self.share.spend(spent)
        keep_round(
            self.settings.control_dsn,
            Round(
                kind=kind,
                began_at=began,
                ended_at=self.clock(),
                cpu_seconds=round(spent + elsewhere, 3),
                comparisons=compared,
                swept_share=swept,
                trouble=trouble,
            ),
        )
        return spent + elsewhere

    def _built(self) -> float:
        """Return the processor time of all builds until now, which another process does."""
        return self.ended_cpu_seconds() if self.builder is None else self.builder.cpu_seconds()

    def _compare_all(self, *, with_finance: bool) -> tuple[int, float]:
        """Compare all pairs (without finance: those that need no build) incrementally; return (results, swept)."""
        pairs = [pair.name for pair in PAIRS if with_finance or pair.name not in OF_WAREHOUSE]
        pods = [pod.pod for pod in self.settings.pods]
        plans = plans_for(self.settings.control_dsn, pods, pairs, self.clock(), absent=absent_copies(self.settings))
        began = self.clock()
        found = self._compare(pairs, pods, plans, self._look_between)
        if with_finance:
            self._note_compared(found, began)
        swept = min((plans[pod].share if pod in plans else 1.0 for pod in pods), default=0.0)
        return len(found.results), swept

    def _compare_again(self, due: Mapping[str, frozenset[str]]) -> Reconciled:
        """Compare these pairs (pod -> pairs) where they have breaks or something has changed; nothing is swept.

        A pod in which that would be everything, because it was never compared completely, waits for finance's round.
        """
        named = frozenset[str]().union(*due.values())
        pairs = [pair for pair in PAIRS if pair.name in named]
        names, dsn, began = [pair.name for pair in pairs], self.settings.control_dsn, self.clock()
        plans = plans_for(dsn, list(due), names, began, seen={}, absent=absent_copies(self.settings))
        is_planned = any(pair.sweep is not Sweep.WHOLE for pair in pairs)
        pods = [pod for pod in due if pod in plans or not is_planned]
        found = self._compare(names, pods, plans, self._look_between)
        self._note_compared(found, began)
        return found

    def _note_compared(self, found: Reconciled, began: datetime) -> None:
        """Note of which pods every comparison of finance's side said something."""
        results = [one for one in found.results if one.pair in OF_WAREHOUSE]
        silent = {one.pod for one in results if not one.is_of_keys}
        self.again.compared({one.pod for one in results} - silent, began, found.recorded.run)

    def _compare_seen(self, seen: Sequence[KeptSighting]) -> tuple[int, float]:
        """Compare what sightings name, pod by pod, and mark the answered ones; return (results, 0: nothing swept)."""
        unanswered: set[int] = set()
        compared, dsn = 0, self.settings.control_dsn
        pods = [pod.pod for pod in self.settings.pods]
        for target in targets(self._narrowed(seen, pods), pods):
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

    def _narrowed(self, seen: Sequence[KeptSighting], pods: Sequence[str]) -> Sequence[KeptSighting]:
        """Return the sightings with the aggregates that the lake's snapshots changed, as far as the lake says."""
        if not any(map(is_narrowable, seen)):
            return seen
        try:
            with closing(self.build_context(self.settings).open_lake()) as lake:
                return narrowed(lake, seen, pods)
        except (duckdb.Error, TieoutError):  # the comparison meets the same error, and says it
            return seen

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
        keeper = Keeper(settings=self.settings, run=f"reconciler {self.clock():%Y-%m-%dT%H:%M:%S.%f}Z")
        with ExitStack() as stack:
            build = None
            if needs_builds(list(pairs)):
                build = (self.builder or stack.enter_context(closing(KeptBuilder(settings=self.settings)))).build_to
            # A small pod is compared incrementally, too: these rounds never end, so that each must cost little.
            context = replace(self.build_context(self.settings, build=build), whole_orders_max=0)
            comparison = run_comparison(context, pairs, pods, on_progress, plans, keeper.take)
        return keeper.end(comparison)
