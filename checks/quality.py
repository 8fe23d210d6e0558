"""Suites of expectations as asset checks: what must hold of the rows of one store, pod by pod.

A suite with an unmet expectation fails its check and names keys; people are told once (`repair/alerts/`). A suite that
could not look makes its check's execution fail, so that "unknown" never looks like an answer. Only the run that needs
Great Expectations imports it, so comparisons do not wait for the import.

Belongs here: definitions and reports of these checks. Does not belong here: suites (`checks/expectations/`).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import dagster as dg
from dagster import AssetCheckExecutionContext

from assets.graph import mart_key, oltp_key
from assets.platform import PLATFORM, Platform, platform_of
from checks.expectations import marts, oltp
from checks.expectations.declared import Severity, Suite
from checks.expectations.judgement import Judgement, load_judge
from checks.expectations.pages import RUNS_KEPT, finish, prune
from contracts.clock import utc_now
from contracts.errors import WarehouseError
from contracts.text import counted
from derived.builds import latest_build
from derived.reports import standing_at
from repair.alerts.unmet import NOT_LOOKED_AT, Looked, Seen, record

Opened = Callable[[Platform, Any, str], AbstractContextManager[Any]]
"""Opens a pod's rows for a judge."""

OLTP, MARTS = "oltp", "marts"
STORES: Mapping[str, Sequence[Suite]] = {OLTP: oltp.SUITES, MARTS: marts.SUITES}
RUNBOOK = "docs/runbooks/expectations.md"
COLUMNS = ("pod", "cut", "expectations", "met", "unmet", "unknown")
FOUND = ("pod", "expectation", "severity", "rows", "keys", "statement")


def asset_of(store: str, suite: Suite) -> dg.AssetKey:
    """Return the asset that a suite looks at."""
    return oltp_key(suite.asset) if store == OLTP else mart_key(suite.asset)


def check_name(suite: Suite) -> str:
    """Return the name of a suite's check."""
    return f"expectations_{suite.name}"


def check_spec(store: str, suite: Suite) -> dg.AssetCheckSpec:
    """Return the check of a suite."""
    statements = " ".join(expectation.statement for expectation in suite.expectations[-3:])
    return dg.AssetCheckSpec(
        check_name(suite),
        asset=asset_of(store, suite),
        description=f"{counted(len(suite.expectations), 'expectation')} of {suite.table}, run by Great "
        f"Expectations, e.g. {statements} Adds: {suite.adds} Cannot catch: rows that follow every rule and are wrong "
        "all the same.",
        metadata={
            "suite": f"{store}.{suite.name}",
            "declared_in": f"checks/expectations/{store}.py",
            "runbook": RUNBOOK,
        },
    )


def suite_result(store: str, suite: Suite, judgements: Sequence[Judgement], data_docs_url: str) -> dg.AssetCheckResult:
    """Return a suite's check over all pods; the suite could look in each of them."""
    unmet = sum(len(judgement.findings) for judgement in judgements)
    is_critical = any(judgement.is_critical for judgement in judgements)
    pages = {f"data_docs_{item.pod}": dg.MetadataValue.url(f"{data_docs_url}/{item.page}") for item in judgements}
    return dg.AssetCheckResult(
        asset_key=asset_of(store, suite),
        check_name=check_name(suite),
        passed=not unmet,
        severity=dg.AssetCheckSeverity.ERROR if is_critical else dg.AssetCheckSeverity.WARN,
        description=_summary(judgements),
        metadata={
            "expectations": sum(judgement.expectations for judgement in judgements),
            "met": sum(judgement.met for judgement in judgements),
            "unmet": unmet,
            "rows_found": sum(finding.rows for judgement in judgements for finding in judgement.findings),
            "pods": _pods_table(judgements),
            "sample": _sample_table(judgements),
            **pages,
        },
    )


def _summary(judgements: Sequence[Judgement]) -> str:
    parts = []
    for item in judgements:
        names = ", ".join(finding.expectation for finding in item.findings)
        parts.append(
            f"{item.pod}: {item.met} of {item.expectations} hold at cut {item.cut}"
            + (f" (not: {names})" if names else "")
        )
    return "; ".join(parts)


def _pods_table(judgements: Sequence[Judgement]) -> dg.TableMetadataValue:
    rows: list[dict[str, str | int]] = [
        {
            "pod": item.pod,
            "cut": item.cut,
            "expectations": item.expectations,
            "met": item.met,
            "unmet": len(item.findings),
            "unknown": len(item.unknown),
        }
        for item in judgements
    ]
    return _table(COLUMNS, rows)


def _sample_table(judgements: Sequence[Judgement]) -> dg.TableMetadataValue:
    rows: list[dict[str, str | int]] = [
        {
            "pod": item.pod,
            "expectation": finding.expectation,
            "severity": finding.severity.value,
            "rows": finding.rows,
            "keys": "; ".join(finding.keys),
            "statement": finding.statement,
        }
        for item in judgements
        for finding in item.findings
    ]
    return _table(FOUND, rows)


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, str | int]]) -> dg.TableMetadataValue:
    schema = dg.TableSchema([dg.TableColumn(name) for name in columns])
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows], schema=schema)


def run_suites(
    platform: Platform, wanted: Mapping[str, Collection[Suite]], run: str, pods: Collection[str] | None = None
) -> Iterator[tuple[str, Suite, Judgement]]:
    """Yield store, suite and judgement of every wanted suite in every pod; a suite that could not look says why.

    A pod's tables are read in one snapshot, its marts as of the newest complete build. Data Docs are built at the end.
    """
    folder = platform.settings.data_docs_dir
    prune(folder, RUNS_KEPT - 1)
    judge = load_judge().Judge(folder, utc_now(), run)
    chosen = [pod.pod for pod in platform.settings.pods if pods is None or pod.pod in pods]
    for store, opened in ((OLTP, _oltp_rows), (MARTS, _mart_rows)):
        suites = wanted.get(store, ())
        for pod in chosen if suites else ():
            for suite, judgement in _of_pod(platform, judge, opened, store, suites, pod):
                yield store, suite, judgement
    judge.publish()
    finish(folder, run)


def _of_pod(
    platform: Platform, judge: Any, opened: Opened, store: str, suites: Collection[Suite], pod: str
) -> Iterator[tuple[Suite, Judgement]]:
    left = list(suites)
    scrub = platform.reconcile_context().scrub
    try:
        with opened(platform, judge, pod) as rows:
            while left:
                yield left[0], judge.judge(store, left[0], rows)
                del left[0]
    except Exception as error:  # any error: the rest of these suites could not look; other stores and pods go on
        reason = scrub(" ".join(f"{type(error).__name__}: {error}".split()))
        for suite in left:
            yield suite, _unknown(store, suite, pod, reason)


def _unknown(store: str, suite: Suite, pod: str, reason: str) -> Judgement:
    return Judgement(
        suite=f"{store}.{suite.name}", pod=pod, cut=0, expectations=len(suite.expectations), unknown=(reason,)
    )


@contextmanager
def _oltp_rows(platform: Platform, judge: Any, pod: str) -> Iterator[Any]:
    context = platform.reconcile_context()
    with (
        context.take_cut(pod) as cut,
        judge.pod_rows(pod, cut.cut, context.pods[pod], cut.exported_snapshot) as rows,
    ):
        yield rows


@contextmanager
def _mart_rows(platform: Platform, judge: Any, pod: str) -> Iterator[Any]:
    lake = platform.reconcile_context().open_lake()
    try:
        build = latest_build(lake)
        if build is None:
            raise WarehouseError("The warehouse has not been built completely yet.")
        cut = build.cuts.get(pod, 0)
        with standing_at(lake, {pod: cut}), judge.mart_rows(pod, cut, lake) as rows:
            yield rows
    finally:
        lake.close()


def looked_at(judgement: Judgement, data_docs_url: str) -> Looked:
    """Return a judgement as the table of unmet expectations stores it."""
    seen = [
        Seen(
            expectation=finding.expectation,
            statement=finding.statement,
            is_critical=finding.severity is Severity.CRITICAL,
            rows=finding.rows,
            keys=finding.keys,
        )
        for finding in judgement.findings
    ]
    if judgement.unknown:
        reason = " ".join(judgement.unknown)
        seen.append(Seen(expectation=NOT_LOOKED_AT, statement=reason, is_critical=True, rows=0, keys=()))
    page = f"{data_docs_url}/{judgement.page}" if judgement.page else data_docs_url
    return Looked(suite=judgement.suite, pod=judgement.pod, page=page, seen=seen, is_known=not judgement.unknown)


@dg.multi_asset_check(
    name="run_expectations",
    specs=[check_spec(store, suite) for store, suites in STORES.items() for suite in suites],
    can_subset=True,
    required_resource_keys={PLATFORM},
)
def expectations(context: AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Run all selected suites in every pod, build Data Docs, store what does not hold, and report a check per suite."""
    platform, run = platform_of(context), context.op_execution_context.run.run_id
    selected = context.op_execution_context.selected_asset_check_keys
    wanted = {
        store: [suite for suite in suites if check_spec(store, suite).key in selected]
        for store, suites in STORES.items()
    }
    judged = list(run_suites(platform, wanted, run))
    url = platform.data_docs_url()
    record(platform.settings.control_dsn, [looked_at(item, url) for _, _, item in judged], run=run, now=utc_now())
    yield from results(judged, url)
    unknown = [f"{item.suite} in {item.pod}: {' '.join(item.unknown)}" for _, _, item in judged if item.unknown]
    if unknown:
        raise dg.Failure(f"Could not look: {' '.join(unknown)}")


def results(judged: Sequence[tuple[str, Suite, Judgement]], data_docs_url: str) -> Iterator[dg.AssetCheckResult]:
    """Yield the check of every suite that could look in all pods."""
    by_suite: dict[str, list[tuple[str, Suite, Judgement]]] = {}
    for item in judged:
        by_suite.setdefault(item[2].suite, []).append(item)
    for items in by_suite.values():
        store, suite, _ = items[0]
        if not any(judgement.unknown for _, _, judgement in items):
            yield suite_result(store, suite, [judgement for _, _, judgement in items], data_docs_url)
