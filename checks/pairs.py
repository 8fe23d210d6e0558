"""Comparisons as asset checks: every pair of `reconcile/pairs.py` checks the copy that it looks at.

A failed check is a difference at a cut. A copy that is late warns; a comparison that could not look makes its check's
execution fail, so that "unknown" never looks like an answer.
"""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster import AssetCheckExecutionContext

from assets.copies import COPY_KEYS
from assets.graph import LAKE_EVENTS, mart_key, oltp_key
from assets.platform import PLATFORM, platform_of
from contracts.errors import ComparisonError
from contracts.verdicts import PairResult, Verdict
from reconcile.pair import Pair
from reconcile.pairs import PAIRS
from reconcile.results import save_results
from reconcile.run import run_pairs

FINANCE = "operational_finance."
OTHER_MARTS = {"tax": "tax_lines", "inventory": "inventory_movements"}
"""Marts that are not named as their pair with the operational view is."""

COLUMNS = ("pod", "verdict", "cut", "compared", "missing", "extra", "different", "duplicates", "late_keys", "reason")


def checked_key(pair: Pair) -> dg.AssetKey:
    """Return the asset that a pair's check belongs to: the copy, or the owner's table for its own identities."""
    if pair.copy is None:
        return oltp_key(pair.aggregate_types[0] if pair.aggregate_types else "stock_movement")
    if pair.copy == "warehouse":
        fact = pair.name.removeprefix(FINANCE)
        return mart_key(OTHER_MARTS.get(fact, fact) if pair.name.startswith(FINANCE) else "journal")
    return COPY_KEYS.get(pair.copy, LAKE_EVENTS)


def check_name(pair: Pair) -> str:
    """Return a pair's name as Dagster allows it."""
    return pair.name.replace(".", "__")


def check_spec(pair: Pair) -> dg.AssetCheckSpec:
    """Return the check of one pair."""
    return dg.AssetCheckSpec(
        check_name(pair),
        asset=checked_key(pair),
        description=f"{pair.left} against {pair.right}. {pair.description} Cannot catch: {pair.cannot_catch}",
        metadata={"pair": pair.name, "owner": pair.left, "copy": pair.right},
    )


def sample_table(results: Sequence[PairResult]) -> dg.TableMetadataValue:
    """Return a bounded sample of the differing keys."""
    rows = [
        {
            "pod": result.pod,
            "entity": found.entity,
            "key": " / ".join(str(part) for part in found.key),
            "class": str(found.kind),
            "columns": "; ".join(f"{item.column}: {item.left} -> {item.right}" for item in found.columns[:5]),
        }
        for result in results
        for found in result.sample[:20]
    ]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in ("pod", "entity", "key", "class", "columns")]),
    )


def _cell(value: object) -> str | int | None:
    return value if value is None or type(value) is int else str(value)


def check_result(pair: Pair, results: Sequence[PairResult]) -> dg.AssetCheckResult:
    """Return one pair's check over all pods; raises ComparisonError when a pod's verdict is unknown."""
    unknown = [result for result in results if result.verdict is Verdict.UNKNOWN]
    if unknown:
        raise ComparisonError("; ".join(f"{pair.name} in {result.pod}: {result.reason}" for result in unknown))
    verdicts = {result.verdict for result in results}
    is_inconsistent = Verdict.INCONSISTENT in verdicts
    rows = [dg.TableRecord({column: _cell(getattr(result, column)) for column in COLUMNS}) for result in results]
    return dg.AssetCheckResult(
        asset_key=checked_key(pair),
        check_name=check_name(pair),
        passed=verdicts == {Verdict.CONSISTENT},
        severity=dg.AssetCheckSeverity.ERROR if is_inconsistent else dg.AssetCheckSeverity.WARN,
        description=", ".join(f"{result.pod}: {result.verdict} at cut {result.cut}" for result in results),
        metadata={
            "compared": sum(result.compared for result in results),
            "differences": sum(result.differences for result in results),
            "seconds": sum(result.seconds for result in results),
            "pods": dg.MetadataValue.table(rows),
            "sample": sample_table(results),
        },
    )


@dg.multi_asset_check(
    name="comparisons",
    specs=[check_spec(pair) for pair in PAIRS],
    can_subset=True,
    required_resource_keys={PLATFORM},
)
def comparisons(context: AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Take a cut of every pod, compare all selected pairs at it, keep the results, report a check per pair."""
    platform = platform_of(context)
    selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
    pairs = [pair for pair in PAIRS if check_name(pair) in selected]
    with platform.propagating():
        results = run_pairs(platform.reconcile_context(), [pair.name for pair in pairs], on_progress=context.log.info)
    save_results(platform.settings.control_dsn, results)
    failures = []
    for pair in pairs:
        try:
            yield check_result(pair, [result for result in results if result.pair == pair.name])
        except ComparisonError as error:
            failures.append(str(error))
    if failures:
        raise dg.Failure(f"Could not look: {' '.join(failures)}")
