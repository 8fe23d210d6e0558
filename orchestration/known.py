"""Entering in Dagster what was found and built outside it: by the first pass of `make run`, by commands, by workers.

Without these entries the pages would show every asset as never materialized and every check as not evaluated, although
all of it was built and compared. A sensor enters them as events without a run. Assets are entered once, before their
checks and lags, because Dagster counts a check as not evaluated if its asset was materialized after it. Evaluations are
entered whenever a newer result exists than Dagster has.

Belongs here: what is entered, in which order, and when. Does not belong here: the results (`checks/`,
`reconcile/results.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

import dagster as dg
import msgspec
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from assets.copies import COPY_KEYS
from assets.finance import certified, report_key
from assets.graph import LOG, OLTP_KEYS, OUTBOX, oltp_key
from assets.model_metadata import ROW_COUNT
from assets.oltp import observed
from assets.platform import PLATFORM, Platform, platform_of
from assets.trust import BREAKS
from checks.evaluations import could_not_look, evaluation_of
from checks.freshness import lags_of
from checks.pairs import check_name, check_result, checked_key, ledger_metadata
from contracts.errors import ComparisonError, TieoutError
from contracts.events import STATE_TYPES
from contracts.runs import KNOWN_SENSOR, REPAIR_TAG
from contracts.text import cuts_text
from contracts.verdicts import PairResult, Verdict
from derived.build_results import KeptBuild, kept_build
from derived.reports import REPORTS
from oltp.store.observe import observe
from orchestration.upkeep import without_secrets
from reconcile.coverage import read_coverage
from reconcile.pairs import PAIRS
from reconcile.results import latest_results
from repair.ledger import groups
from streams.draining import observe_pod

LOOK_SECONDS = 10
AGAIN_SECONDS = 600
"""An evaluation that says the same as the last one, a pass, is entered again after this time."""
PASSED = "pass"

AssetEvent = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """What was entered in Dagster already; stored as the sensor's cursor."""

    has_copies: bool = False
    build_id: str = ""
    """The newest build whose tests were entered."""
    compared_at: datetime | None = None
    """When the newest result that was entered was compared."""


def copies(platform: Platform, instance: dg.DagsterInstance) -> Iterator[AssetEvent]:
    """Yield the state of OLTP, outboxes, log, lake and read models, for the assets that Dagster has no event of."""
    pods = platform.settings.pods
    if not instance.fetch_observations(OLTP_KEYS[0], limit=1).records:
        observations = [observe(pod) for pod in pods]
        for aggregate_type in STATE_TYPES:
            seen = observed(aggregate_type, observations)
            yield dg.AssetObservation(asset_key=oltp_key(aggregate_type), metadata=seen.metadata)
    for pod in pods:
        waiting = observe_pod(pod, platform.settings)
        state = {"cut": waiting.cut, "unpublished_events": waiting.unpublished_events}
        for key in (OUTBOX, LOG):
            if pod.pod not in instance.get_materialized_partitions(key):
                yield dg.AssetMaterialization(asset_key=key, partition=pod.pod, metadata=state)
    for name, key in COPY_KEYS.items():
        there = instance.get_materialized_partitions(key)
        for lag in lags_of(platform, name):
            if lag.pod not in there:
                metadata = {"lag_seconds": lag.lag_seconds, "lag_events": lag.lag_events}
                yield dg.AssetMaterialization(asset_key=key, partition=lag.pod, metadata=metadata)
    if instance.get_latest_materialization_event(BREAKS) is None:
        yield dg.AssetMaterialization(BREAKS, metadata=ledger_metadata(platform.settings.control_dsn))


def models(warehouse: dg.AssetsDefinition, build: KeptBuild, instance: dg.DagsterInstance) -> Iterator[AssetEvent]:
    """Yield the models of a build of which Dagster has no materialization."""
    built = {node.name: node for node in build.nodes if node.kind == "model" and node.status == "success"}
    seen = {"build_id": build.build_id, "cuts": cuts_text(build.cuts)}
    for key in sorted(warehouse.keys, key=str):
        if key.path[-1] in built and instance.get_latest_materialization_event(key) is None:
            rows = built[key.path[-1]].rows
            counted = {} if rows is None else {ROW_COUNT: rows}
            yield dg.AssetMaterialization(asset_key=key, metadata={**seen, **counted})


def tests(warehouse: dg.AssetsDefinition, build: KeptBuild) -> Iterator[AssetEvent]:
    """Yield an evaluation for every test that a build ran."""
    keys = {spec.name: spec.asset_key for spec in warehouse.check_specs}
    for node in build.nodes:
        if node.kind != "test" or node.name not in keys:
            continue
        yield dg.AssetCheckEvaluation(
            asset_key=keys[node.name],
            check_name=node.name,
            passed=node.status == PASSED,
            severity=dg.AssetCheckSeverity.WARN if node.status == "warn" else dg.AssetCheckSeverity.ERROR,
            description=node.message or None,
            metadata={"status": node.status, "failures": node.failures, "build_id": build.build_id},
        )


def reports(platform: Platform, instance: dg.DagsterInstance) -> Iterator[AssetEvent]:
    """Yield the finance reports of the newest complete build of which Dagster has no materialization."""
    for name in REPORTS:
        if instance.get_latest_materialization_event(report_key(name)) is None:
            try:
                yield dg.AssetMaterialization(asset_key=report_key(name), metadata=certified(platform.report(name)))
            except TieoutError:  # e.g. no build is complete yet; the first complete build makes the reports
                return


def comparisons(
    platform: Platform,
    results: Sequence[PairResult],
    instance: dg.DagsterInstance,
    *,
    is_first_left_out: bool = False,
) -> Iterator[AssetEvent]:
    """Yield an evaluation for every pair whose newest results are newer than what Dagster has.

    `is_first_left_out`: only of pairs that Dagster has an evaluation of. The first ones follow their assets.
    """
    by_pair = {name: list(found) for name, found in groupby(results, key=lambda result: result.pair)}
    keys = {pair.name: dg.AssetCheckKey(checked_key(pair), check_name(pair)) for pair in PAIRS}
    known = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys.values()))
    control_dsn = platform.settings.control_dsn
    incidents, coverage = groups(control_dsn), read_coverage(control_dsn)
    for pair in PAIRS:
        key, found = keys[pair.name], by_pair.get(pair.name, [])
        if is_first_left_out and known.get(key) is None:
            continue
        if not found or _is_known(key, known.get(key), found, instance):
            continue
        try:
            result = check_result(
                pair,
                found,
                [incident for incident in incidents if incident.pair == pair.name],
                coverage=[one for one in coverage.values() if one.pair == pair.name],
            )
        except ComparisonError as error:
            yield could_not_look(key.asset_key, key.name, str(error))
            continue
        yield evaluation_of(result)


def is_repairing(instance: dg.DagsterInstance, pods: Sequence[str]) -> bool:
    """Return whether a Dagster run is repairing one of these pods now."""
    filters = dg.RunsFilter(tags={REPAIR_TAG: list(pods)}, statuses=list(IN_PROGRESS_RUN_STATUSES))
    return instance.get_runs_count(filters) > 0


def _is_known(
    key: dg.AssetCheckKey,
    record: AssetCheckExecutionRecord | None,
    found: Sequence[PairResult],
    instance: dg.DagsterInstance,
) -> bool:
    if record is None:
        return False
    if record.status is AssetCheckExecutionRecordStatus.PLANNED:
        run = instance.get_run_by_id(record.run_id)
        # The run in progress reports its results itself.
        return run is not None and not run.is_finished
    at = record.create_timestamp if record.event is None else record.event.timestamp
    newest = max(result.checked_at for result in found).timestamp()
    if at >= newest:
        return True
    # A reconciler compares all the time: a pass that follows a pass is entered now and then only.
    is_pass = all(result.verdict is Verdict.CONSISTENT for result in found)
    was_pass = record.status is AssetCheckExecutionRecordStatus.SUCCEEDED
    return is_pass and was_pass and newest - at < AGAIN_SECONDS and not _is_made_since(key.asset_key, at, instance)


def _is_made_since(key: dg.AssetKey, at: float, instance: dg.DagsterInstance) -> bool:
    """Return whether an asset was materialized after a moment: then an earlier evaluation no longer counts."""
    made = instance.get_latest_materialization_event(key)
    return made is not None and made.timestamp > at


def entries(
    platform: Platform, warehouse: dg.AssetsDefinition, instance: dg.DagsterInstance, entered: Entered
) -> tuple[list[AssetEvent], Entered]:
    """Return the events to enter now, assets before their checks, and the cursor after entering them."""
    events: list[AssetEvent] = [] if entered.has_copies else list(copies(platform, instance))
    build = kept_build(platform.settings)
    if build is not None and build.build_id != entered.build_id:
        if not entered.build_id:
            events += [*models(warehouse, build, instance), *reports(platform, instance)]
        events += tests(warehouse, build)
    results = latest_results(platform.settings.control_dsn)
    newest = max((result.checked_at for result in results), default=None)
    # A repair in progress reports its comparisons itself, and names itself in them.
    if newest != entered.compared_at and is_repairing(instance, [pod.pod for pod in platform.settings.pods]):
        newest = entered.compared_at
    if newest != entered.compared_at:
        events += comparisons(platform, results, instance)
    now = Entered(has_copies=True, build_id=build.build_id if build else entered.build_id, compared_at=newest)
    return events, now


def known_sensor(warehouse: dg.AssetsDefinition) -> dg.SensorDefinition:
    """Return the sensor; `warehouse` are the assets of dbt's models."""

    @dg.sensor(
        name=KNOWN_SENSOR,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={PLATFORM},
        description="Enters what was built, tested and compared outside Dagster: by `make run`, commands and workers.",
    )
    def what_is_known(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        entered = msgspec.json.decode(context.cursor, type=Entered) if context.cursor else Entered()
        platform = platform_of(context)
        with without_secrets(platform.settings):
            events, now = entries(platform, warehouse, context.instance, entered)
        return dg.SensorResult(asset_events=events, cursor=msgspec.json.encode(now).decode())

    return what_is_known
