"""Builds what a run of repairs needs: stores that are kept up to date, comparisons, builds of the warehouse.

Belongs here: building these for the command, Dagster's jobs and tests alike. Does not belong here: how a break is
repaired (`repair/plan.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType

from contracts.clock import Clock, utc_now
from contracts.progress import Progress
from contracts.settings import Settings
from contracts.verdicts import PairResult
from reconcile.comparison_run import run_pairs
from reconcile.results import save_results
from reconcile.sweep import SeenKeys
from repair.sweeping import plans_for
from repair.tools import OnStep, Repairing
from stack.composition.builder import WarehouseBuilder, warm_builder
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import propagating
from stack.composition.projections import build_projection
from stack.scrubbing import scrubber
from streams.clocks import database_clock

NO_KEYS: Mapping[str, Collection[str]] = MappingProxyType({})


@contextmanager
def repairing_tools(
    values: Settings,
    progress: Progress,
    *,
    is_propagated: bool = True,
    on_step: OnStep = lambda name: None,
    clock: Clock = utc_now,
) -> Iterator[Repairing]:
    """Yield what a run of repairs needs; meanwhile the workers or this process keep the copies up to date."""
    with ExitStack() as stack:
        if is_propagated:
            stack.enter_context(propagating(values))
        warehouse = _Warehouse(values, stack)

        def recheck(
            pairs: Collection[str], pods: Collection[str], keys: Mapping[str, Collection[str]] = NO_KEYS, /
        ) -> Sequence[PairResult]:
            return _compare_again(values, warehouse, progress, pairs, pods, keys)

        yield Repairing(
            settings=values,
            recheck=recheck,
            build=warehouse.build_again,
            prepare_build=warehouse.prepare,
            projection=lambda name: build_projection(name, values),
            clean=scrubber(values),
            on_step=on_step,
            # Leases end by the clock of the ledger's database, because the clocks of machines may differ by hours.
            clock=database_clock(values.control_dsn, clock=clock),
        )


class _Warehouse:
    """The builder's process. It is started when a build is to be expected, because most repairs need none."""

    def __init__(self, values: Settings, stack: ExitStack) -> None:
        self._values = values
        self._stack = stack
        self._builder: WarehouseBuilder | None = None

    def prepare(self) -> None:
        """Start the process, which needs seconds before it can build."""
        self._started()

    def build_to(self, cuts: Mapping[str, int]) -> Mapping[str, int]:
        return self._started().build_to(cuts)

    def build_again(self, since: Mapping[str, int], is_full: bool) -> Mapping[str, int]:
        return self._started().build_again(since=since, full_refresh=is_full).cuts

    def _started(self) -> WarehouseBuilder:
        if self._builder is None:
            self._builder = self._stack.enter_context(warm_builder(self._values))
        return self._builder


def _compare_again(
    values: Settings,
    warehouse: _Warehouse,
    progress: Progress,
    pairs: Collection[str],
    pods: Collection[str],
    keys: Mapping[str, Collection[str]],
) -> Sequence[PairResult]:
    with progress.step("Comparing again at new cuts") as step:
        context = build_reconcile_context(values, build=warehouse.build_to)
        seen = {pod: SeenKeys(ids=frozenset(ids)) for pod, ids in keys.items()}
        plans = plans_for(values.control_dsn, list(keys), pairs, context.now(), seen=seen, absent=context.absent)
        results = run_pairs(context, pairs, pods, on_progress=step.say, plans=plans)
    save_results(values.control_dsn, results)
    return results
