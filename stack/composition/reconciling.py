"""A comparison now: take a cut of every pod, bring the copies there, store the verdicts, and record differences in the
ledger of breaks.

Belongs here: what `tieout reconcile` and the first pass of `make run` do. Does not belong here: comparing
(`reconcile/`), the context of a comparison (`stack/composition/comparison.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import duckdb
import psycopg

from contracts.clock import utc_now
from contracts.errors import WarehouseError
from contracts.ownership import LAKE, LOG, absent_copies, copy_named, family_of
from contracts.progress import Progress
from contracts.settings import Settings
from contracts.text import are, counted
from contracts.tying import Tying
from contracts.verdicts import PairResult, Verdict
from derived.defective import in_words
from reconcile.comparison_run import Comparison, run_comparison
from reconcile.context import ReconcileContext
from reconcile.figure_results import figured_cuts, save_figures
from reconcile.oltp_side import OpenCut
from reconcile.pair import Pair, Stage
from reconcile.pairs import PAIRS, pairs_named
from reconcile.results import save_results
from repair.ledger import Recorded
from repair.sweeping import plans_for, take_in
from stack.composition.builder import Built, WarehouseBuilder
from stack.composition.certificate_evidence import DEPENDED_ON
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import propagating

NAMED_MAX = 3


@dataclass(frozen=True, kw_only=True)
class Reconciled(Comparison):
    """The result of a run, and its changes in the ledger of breaks."""

    recorded: Recorded


def reconcile_now(
    settings: Settings,
    progress: Progress,
    builder: WarehouseBuilder | None,
    *,
    pairs: Sequence[str] | None = None,
    is_incremental: bool = False,
) -> Reconciled:
    """Compare the named pairs (default: all) in all pods at new cuts; store the results and their breaks.

    `is_incremental`: compare only what changed since the last comparison, keys with breaks, and the next part of the
    sweep. `builder` may be None when no pair needs builds (`needs_builds`).
    """
    keeper = Keeper(settings=settings, run=f"reconcile {utc_now():%Y-%m-%dT%H:%M:%S.%f}Z")
    with propagating(settings), progress.step("Comparing every store at new cuts") as step:

        def build(cuts: Mapping[str, int]) -> Mapping[str, int]:
            if builder is None:
                raise WarehouseError("The warehouse was to be built, and nobody was given to build it.")
            step.say("building the warehouse")
            return builder.build_to(cuts)

        context = build_reconcile_context(settings, build=build)
        if builder is not None and needs_builds(pairs):
            context = _building_early(context, builder)
        pods = [pod.pod for pod in settings.pods]
        absent = absent_copies(settings)
        plans = plans_for(settings.control_dsn, pods, pairs, utc_now(), absent=absent) if is_incremental else {}
        comparison = run_comparison(context, pairs, on_progress=step.say, plans=plans)
    return keeper.end(comparison)


@dataclass(kw_only=True)
class Keeper:
    """Keeps what a comparison finds: a difference at once, because its repair waits for it, and the rest at the end."""

    settings: Settings
    run: str
    recorded: Recorded = field(init=False)
    kept: list[PairResult] = field(default_factory=list)
    waiting: list[PairResult] = field(default_factory=list)
    """Of the stages so far, those that are not stored yet."""

    def __post_init__(self) -> None:
        """Begin with nothing recorded."""
        self.recorded = Recorded(run=self.run)

    def take(self, results: Sequence[PairResult]) -> None:
        """Take the results of a stage, and store those there are by now if they differ; what fails is tried at the end.

        What the log lacks waits for the comparison of the lake with it: a repair of the log would hide there what is
        known to be gone.
        """
        self.waiting += results
        is_lake_known = any(family_of(one.pair) in LAKE.found_by for one in self.waiting)
        ready = [one for one in self.waiting if is_lake_known or family_of(one.pair) not in LOG.found_by]
        if any(one.verdict is Verdict.INCONSISTENT for one in ready):
            with suppress(psycopg.Error):
                self._keep(ready)

    def end(self, comparison: Comparison) -> Reconciled:
        """Store what is not stored yet, and the figures; return everything."""
        known = {(one.pair, one.pod) for one in self.kept}
        self._keep([one for one in comparison.results if (one.pair, one.pod) not in known])
        dsn = self.settings.control_dsn
        save_figures(dsn, comparison.figures, cuts=figured_cuts(comparison.results))
        return Reconciled(results=comparison.results, figures=comparison.figures, recorded=self.recorded)

    def _keep(self, results: Sequence[PairResult]) -> None:
        save_results(self.settings.control_dsn, results)
        self.recorded += take_in(self.settings.control_dsn, results, run=self.run)
        self.kept += results
        stored = {(one.pair, one.pod) for one in results}
        self.waiting = [one for one in self.waiting if (one.pair, one.pod) not in stored]


def needs_builds(pairs: Sequence[str] | None) -> bool:
    """Return whether one of these pairs (None: all) compares the warehouse. InputError when a name is no pair's."""
    return any(pair.stage is Stage.WAREHOUSE for pair in pairs_named(pairs))


def recorded_json(recorded: Recorded) -> dict[str, Any]:
    """Return what a run changed in the ledger, as values that JSON can hold."""
    return {**asdict(recorded), "breaks_ended": recorded.breaks_ended}


def describe_recorded(recorded: Recorded) -> str:
    """Return one line about the changes of a run in the ledger of breaks."""
    opened = f"{recorded.breaks_opened:,} opened" if recorded.breaks_opened else "none opened"
    parts = [
        f"{number:,} {what}"
        for number, what in (
            (recorded.breaks_seen, "still there"),
            (recorded.breaks_reopened, "of them opened again, as the difference is no longer the accepted one"),
            (recorded.breaks_repaired, "repaired"),
            (recorded.breaks_vanished, "vanished"),
        )
        if number
    ]
    where = " See `tieout breaks list`." if recorded.breaks_opened or recorded.breaks_seen else ""
    return f"Breaks: {', '.join([opened, *parts])}.{where}"


def _building_early(context: ReconcileContext, builder: WarehouseBuilder) -> ReconcileContext:
    """Return a context that starts the build as soon as the lake has all cuts, in parallel with the comparisons."""
    cuts: dict[str, int] = {}
    arrived: set[str] = set()

    @contextmanager
    def take_cut(pod: str) -> Iterator[OpenCut]:
        with context.take_cut(pod) as opened:
            cuts[pod] = opened.cut
            yield opened

    def lake_cut(connection: duckdb.DuckDBPyConnection, pod: str) -> int:
        reached = context.lake_cut(connection, pod)
        if pod in cuts and pod not in arrived and reached >= cuts[pod]:
            arrived.add(pod)
            if arrived == set(context.pods):
                builder.start()
        return reached

    return replace(context, take_cut=take_cut, lake_cut=lake_cut)


def ties(comparison: Comparison) -> bool:
    """Return whether something was compared, every verdict is consistent, and no figure differs or is one-sided."""
    verdicts = [result.verdict is Verdict.CONSISTENT for result in comparison.results]
    return bool(verdicts) and all([*verdicts, *(figure.difference == 0 for figure in comparison.figures)])


def _may_be_absent(pair: Pair) -> bool:
    """Return whether a system need not have the pair's copy."""
    return pair.copy is not None and bool(copy_named(pair.copy).setting)


def conclusion(comparison: Comparison) -> str:
    """Return whether everything ties, and if not, whether finance's part does, in the words of the certificates."""
    results = comparison.results
    if ties(comparison):
        is_all = {one.pair for one in results} >= {pair.name for pair in PAIRS if not _may_be_absent(pair)}
        what = "Everything ties" if is_all else "What was compared ties"
        return (
            f"{what}: all {counted(len(results), 'comparison is', 'comparisons are')} consistent, and no total differs."
        )
    others = sorted(f"{one.pair} in {one.pod}" for one in results if one.verdict is not Verdict.CONSISTENT)
    more = f" and {len(others) - NAMED_MAX} more" if len(others) > NAMED_MAX else ""
    named = f" ({', '.join(others[:NAMED_MAX])}{more})" if others else ""
    finance = _tying([one for one in results if one.pair in DEPENDED_ON], comparison)
    whole = f"{len(others)} of {counted(len(results), 'comparison')} {are(len(others))} not consistent{named}"
    return (
        f"{_tying(results, comparison)} as a whole: {whole}. "
        f"For finance and what it is made from, which is what certificates cover: {finance.value.lower()}."
    )


def _tying(results: Sequence[PairResult], comparison: Comparison) -> Tying:
    """Return whether some of a run's results tie; the totals in `comparison.figures` are finance's."""
    verdicts = {one.verdict for one in results}
    if Verdict.INCONSISTENT in verdicts or any(figure.difference != 0 for figure in comparison.figures):
        return Tying.DOES_NOT_TIE
    return Tying.TIES if verdicts == {Verdict.CONSISTENT} else Tying.NOT_COMPARED


def describe_build(built: Built | None) -> str:
    """Return one line about the last build."""
    if built is None:
        return "The warehouse was not built."
    cuts = ", ".join(f"{pod} at cut {cut}" for pod, cut in sorted(built.cuts.items()))
    nodes = f"{counted(built.models, 'model')} and {counted(built.tests, 'test')}"
    what = f"Warehouse: {nodes} in {built.seconds:.1f} s, {cuts}."
    return " ".join(filter(None, (what, in_words(built.left_out), *built.warnings)))
