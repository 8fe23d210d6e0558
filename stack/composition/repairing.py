"""BuildTo what a run of repairs needs: stores that are kept up to date, comparisons, builds of the warehouse.

Belongs here: building these for the command, Dagster's jobs and tests alike. Does not belong here: how a break is
repaired (`repair/plan.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from types import MappingProxyType

from contracts.clock import Clock, utc_now
from contracts.progress import Progress
from contracts.settings import Settings
from contracts.verdicts import PairResult
from reconcile.comparison_run import run_pairs
from reconcile.results import save_results
from reconcile.sweep import SeenKeys
from repair.sweeping import plans_for
from repair.tools import BuildTo, OnStep, Repairing
from repair.trace import Trace
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import propagating
from stack.composition.kept_builder import KeptBuilder
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
    kept_builder: KeptBuilder | None = None,
) -> Iterator[Repairing]:
    """Yield what a run of repairs needs; meanwhile the workers or this process keep the copies up to date.

    `kept_builder`: builds the warehouse, and outlives this run; without it, a builder is started when one is needed.
    """
    with ExitStack() as stack:
        if is_propagated:
            stack.enter_context(propagating(values))
        trace = Trace()
        # Started when a build is to be expected, because most repairs need none.
        builder = kept_builder or stack.enter_context(closing(KeptBuilder(settings=values)))

        def recheck(
            pairs: Collection[str],
            pods: Collection[str],
            keys: Mapping[str, Collection[str]] = NO_KEYS,
            build: BuildTo | None = None,
            /,
        ) -> Sequence[PairResult]:
            return _compare_again(values, build or builder.build_to, progress, trace.reached, pairs, pods, keys)

        def reached(step: str) -> None:
            trace.reached(step)
            on_step(step)

        yield Repairing(
            settings=values,
            recheck=recheck,
            build=builder.build_again,
            prepare_build=builder.prepare,
            projection=lambda name: build_projection(name, values),
            clean=scrubber(values),
            on_step=reached,
            trace=trace,
            # Leases end by the clock of the ledger's database, because the clocks of machines may differ by hours.
            clock=database_clock(values.control_dsn, clock=clock),
        )


def _compare_again(
    values: Settings,
    build: BuildTo,
    progress: Progress,
    reached: OnStep,
    pairs: Collection[str],
    pods: Collection[str],
    keys: Mapping[str, Collection[str]],
) -> Sequence[PairResult]:
    with progress.step("Comparing again at new cuts") as step:
        # A small pod is compared by keys, too: somebody waits for the proof.
        context = replace(build_reconcile_context(values, build=build), whole_orders_max=0)
        seen = {pod: SeenKeys(ids=frozenset(ids)) for pod, ids in keys.items()}

        def say(sentence: str) -> None:
            reached(sentence)
            step.say(sentence)

        plans = plans_for(values.control_dsn, list(keys), pairs, context.now(), seen=seen, absent=context.absent)
        results = run_pairs(context, pairs, pods, on_progress=say, plans=plans)
    save_results(values.control_dsn, results)
    return results
