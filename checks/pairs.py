"""Comparisons as asset checks: every pair of `reconcile/pairs.py` checks the copy that it looks at.

A check fails if there is a difference at a cut; the ledger of breaks then has it, and repairs start from the ledger. A
late copy and a difference that people accepted only warn. A comparison that could not look makes its check's execution
fail, so that "unknown" never looks like an answer; differences found in other pods are still shown.

Belongs here: these checks and their results. Does not belong here: comparing (`reconcile/`), the ledger (`repair/`).
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

import dagster as dg
from dagster import AssetCheckExecutionContext

from assets.copies import ALL_KEYS
from assets.graph import LAKE_EVENTS, mart_key, oltp_key
from assets.platform import PLATFORM, Platform, platform_of
from assets.trust import BREAKS
from contracts.breaks import BreakGroup, BreakState
from contracts.clock import utc_now
from contracts.errors import ComparisonError
from contracts.money import amount_name, in_major_units
from contracts.ownership import LOG, WAREHOUSE, absent_copies
from contracts.runs import INCREMENTAL, RECONCILIATION_TAG, SCHEDULE_TAG
from contracts.text import counted, visible
from contracts.verdicts import ColumnDifference, PairResult, Verdict
from reconcile.comparison_run import Comparison, OnProgress, run_comparison
from reconcile.coverage import read_coverage
from reconcile.figure_results import figured_cuts, save_figures
from reconcile.pair import Pair
from reconcile.pairs import PAIRS
from reconcile.results import save_results
from reconcile.sweep import Coverage
from repair.ledger import groups
from repair.sweeping import plans_for, take_in

FINANCE = "operational_finance."
OTHER_MARTS = {"tax": "tax_lines", "inventory": "inventory_movements", "gift_card_liability": "journal"}
"""Marts whose name differs from the name of their pair with the operational view."""

KEYS_SHOWN = 20

COLUMNS = ("pod", "verdict", "cut", "compared", "missing", "extra", "different", "duplicates", "late_keys", "reason")


def checked_key(pair: Pair) -> dg.AssetKey:
    """Return the asset that holds a pair's check: the copy; for OLTP's own identities and stored tables, the table."""
    if pair.copy is None:
        return oltp_key(pair.aggregate_types[0] if pair.aggregate_types else "stock_movement")
    if pair.stored_tables:
        (stored,) = pair.stored_tables
        return dg.AssetKey(stored.split("."))
    if pair.copy == WAREHOUSE.name:
        fact = pair.name.removeprefix(FINANCE)
        return mart_key(OTHER_MARTS.get(fact, fact) if pair.name.startswith(FINANCE) else "journal")
    # Events in the log are on their way to the lake, so the lake shows the log's comparisons.
    return LAKE_EVENTS if pair.copy == LOG.name else ALL_KEYS[pair.copy]


def check_name(pair: Pair) -> str:
    """Return a pair's name in a form that Dagster allows."""
    return pair.name.replace(".", "__")


def check_spec(pair: Pair) -> dg.AssetCheckSpec:
    """Return the check of one pair."""
    return dg.AssetCheckSpec(
        check_name(pair),
        asset=checked_key(pair),
        description=f"{pair.left} against {pair.right}. {pair.description} Cannot catch: {pair.cannot_catch}",
        metadata={"pair": pair.name, "owner": pair.left, "copy": pair.right},
    )


def _changed(item: ColumnDifference, currency: str | None) -> str:
    left, right = (in_major_units(item.column, value, currency) or value for value in (item.left, item.right))
    return f"{amount_name(item.column)}: {left} -> {right}"


def sample_table(results: Sequence[PairResult]) -> dg.TableMetadataValue:
    """Return a bounded sample of the differing keys."""
    rows = [
        {
            "pod": result.pod,
            "entity": found.entity,
            "key": visible(" / ".join(str(part) for part in found.key)),
            "class": str(found.kind),
            "columns": visible("; ".join(_changed(item, found.currency) for item in found.columns[:5])),
        }
        for result in results
        for found in result.sample[:KEYS_SHOWN]
    ]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in ("pod", "entity", "key", "class", "columns")]),
    )


def _cell(value: object) -> str | int | None:
    return value if value is None or type(value) is int else visible(str(value))


def check_result(
    pair: Pair,
    results: Sequence[PairResult],
    incidents: Sequence[BreakGroup] = (),
    repaired_by: str | None = None,
    coverage: Sequence[Coverage] = (),
) -> dg.AssetCheckResult:
    """Return one pair's check over all pods.

    Without results the system has no such copy: every other pair always has one, if only that it could not look.
    Raises ComparisonError if a pod's verdict is unknown and no other pod's verdict fails the check. `incidents` are the
    pair's incidents that have not ended; `repaired_by` is the run of the repair that made this comparison.
    """
    verdicts = {result.verdict for result in results}
    if not results:
        return dg.AssetCheckResult(
            asset_key=checked_key(pair),
            check_name=check_name(pair),
            passed=True,
            description=f"This system has no {pair.copy}, so there is nothing to compare.",
            metadata={"compared": 0},
        )
    if Verdict.UNKNOWN in verdicts and Verdict.INCONSISTENT not in verdicts:
        raise ComparisonError(could_not_look(results))
    is_wrong = Verdict.INCONSISTENT in verdicts and not _is_accepted(results, incidents)
    rows = [dg.TableRecord({column: _cell(getattr(result, column)) for column in COLUMNS}) for result in results]
    return dg.AssetCheckResult(
        asset_key=checked_key(pair),
        check_name=check_name(pair),
        passed=verdicts == {Verdict.CONSISTENT},
        severity=dg.AssetCheckSeverity.ERROR if is_wrong else dg.AssetCheckSeverity.WARN,
        description=". ".join(
            [", ".join(f"{result.pod}: {result.verdict} at cut {result.cut}" for result in results)]
            + ([could_not_look(results)] if Verdict.UNKNOWN in verdicts else [])
        ),
        metadata={
            "compared": sum(result.compared for result in results),
            "differences": sum(result.differences for result in results),
            "seconds": sum(result.seconds for result in results),
            "pods": dg.MetadataValue.table(rows),
            "sample": sample_table(results),
            "looked_at_everything": all(result.is_whole for result in results),
            **({"everything_compared_since": _since(coverage)} if coverage else {}),
            **({"break_groups": _named(incidents)} if incidents else {}),
            **({"repaired_by": dg.MetadataValue.dagster_run(repaired_by)} if repaired_by else {}),
        },
    )


def could_not_look(results: Sequence[PairResult]) -> str:
    """Return where a comparison could not look, and why; empty if it looked everywhere."""
    unknown = [result for result in results if result.verdict is Verdict.UNKNOWN]
    return "; ".join(f"{result.pair} in {result.pod}: {visible(result.reason)}" for result in unknown)


def _is_accepted(results: Sequence[PairResult], incidents: Sequence[BreakGroup]) -> bool:
    """Return whether people have accepted all differences."""
    accepted = sum(incident.counts.get(BreakState.ACCEPTED, 0) for incident in incidents)
    return accepted == sum(result.differences for result in results)


def _since(coverage: Sequence[Coverage]) -> str:
    """Return, per pod, since when and from which cut on everything was compared at least once."""
    return "; ".join(
        f"{one.pod}: {one.oldest.compared_at:%Y-%m-%d %H:%M:%S} UTC, at or after cut {one.lowest_cut}"
        for one in coverage
    )


def _named(incidents: Sequence[BreakGroup]) -> str:
    return ", ".join(f"{incident.group_id} ({counted(incident.keys, 'key')} {incident.kind})" for incident in incidents)


def compare(
    platform: Platform,
    pairs: Collection[str],
    *,
    pods: Collection[str] | None = None,
    on_progress: OnProgress | None = None,
    is_incremental: bool = False,
) -> Comparison:
    """Compare pairs at new cuts, store the results, and return them with every differing key, for the ledger.

    Incremental: only what changed since the last comparison, keys with breaks, and the sweep's next part.
    """
    control_dsn = platform.settings.control_dsn
    chosen = [pod.pod for pod in platform.settings.pods if pods is None or pod.pod in pods]
    absent = absent_copies(platform.settings)
    plans = plans_for(control_dsn, chosen, pairs, utc_now(), absent=absent) if is_incremental else {}
    with platform.propagating():
        comparison = run_comparison(platform.reconcile_context(), pairs, pods, on_progress, plans)
    save_results(control_dsn, comparison.results)
    save_figures(control_dsn, comparison.figures, cuts=figured_cuts(comparison.results))
    return comparison


def ledger_metadata(control_dsn: str) -> dict[str, int]:
    """Return the number of breaks that have not ended, by state."""
    unended = groups(control_dsn)
    states = (BreakState.OPEN, BreakState.REPAIRING, BreakState.ESCALATED, BreakState.ACCEPTED)
    return {state.value: sum(incident.counts.get(state, 0) for incident in unended) for state in states}


@dg.multi_asset_check(
    name="comparisons",
    specs=[check_spec(pair) for pair in PAIRS],
    can_subset=True,
    required_resource_keys={PLATFORM},
)
def comparisons(context: AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Take a cut of every pod, compare all selected pairs at it, record differences, and report a check per pair."""
    platform = platform_of(context)
    control_dsn, run = platform.settings.control_dsn, context.op_execution_context.run
    selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
    pairs = [pair for pair in PAIRS if check_name(pair) in selected]
    is_incremental = run.tags.get(RECONCILIATION_TAG) == INCREMENTAL
    names = [pair.name for pair in pairs]
    comparison = compare(platform, names, on_progress=context.log.info, is_incremental=is_incremental)
    recorded = take_in(control_dsn, comparison.results, run=run.run_id)
    coverage = read_coverage(control_dsn)
    context.log.info(f"Breaks: {recorded.breaks_opened} opened, {recorded.breaks_ended} ended.")
    context.op_execution_context.log_event(dg.AssetObservation(BREAKS, metadata=ledger_metadata(control_dsn)))
    if SCHEDULE_TAG in run.tags:
        platform.write_digest(comparison, run.run_id)
    incidents = groups(control_dsn)
    for pair in pairs:
        with suppress(ComparisonError):  # the failure below names all pairs that could not look
            yield check_result(
                pair,
                [result for result in comparison.results if result.pair == pair.name],
                [incident for incident in incidents if incident.pair == pair.name],
                coverage=[one for one in coverage.values() if one.pair == pair.name],
            )
    if unknown := could_not_look(comparison.results):
        raise dg.Failure(f"Could not look: {unknown}")
