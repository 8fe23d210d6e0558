"""The graph in process: draining, comparing and freshness through Dagster's own API, on two real pods."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.observe import observe

from assets.copies import COPY_KEYS
from assets.gauges import gauge_key
from assets.graph import LAKE_EVENTS, LOG, OUTBOX, oltp_key
from contracts.ownership import ANSWER_CACHE, CART, COPIES, PROJECTED, WAREHOUSE, WEBHOOKS, absent_copies
from contracts.settings import Settings
from derived.lake_connection import open_lake
from orchestration.definitions import build_definitions
from orchestration.resources import build_platform
from orchestration.sensors import fresh_now
from reconcile.results import latest_results
from stack.composition.migrations import migrate_everything
from stack.looking.lake_completeness import lake_complete_at
from streams.draining import drain_pod
from tests.integration.reconcile_world import Shop, open_shops

PODS = ("pod1", "pod2")


@pytest.fixture
def shops(settings: Settings) -> Iterator[tuple[Shop, Shop]]:
    migrate_everything(settings)
    with open_shops(settings) as opened:
        for shop in opened:
            shop.everything()
        yield opened


def run(definitions: dg.Definitions, job: str, instance: dg.DagsterInstance, **options: object) -> object:
    result = definitions.resolve_job_def(job).execute_in_process(instance=instance, **options)  # type: ignore[arg-type]
    assert result.success
    return result


def materialization(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, object]:
    event = instance.get_latest_materialization_event(key)
    assert event is not None and event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def checks_of(result: object) -> dict[str, dg.AssetCheckEvaluation]:
    evaluations = result.get_asset_check_evaluations()  # type: ignore[attr-defined]
    return {f"{item.asset_key.to_user_string()}:{item.check_name}": item for item in evaluations}


def damage(settings: Settings) -> None:
    """Change one order behind the triggers' back, as a person with too many rights could."""
    with psycopg.connect(settings.pods[0].owner_dsn) as connection:
        connection.execute("alter table oltp.orders disable trigger user")
        changed = connection.execute(
            "update oltp.orders set order_number = 'edited' "
            "where order_id = (select min(order_id::text)::uuid from oltp.orders)"
        )
        assert changed.rowcount == 1
        connection.execute("alter table oltp.orders enable trigger user")


def test_draining_a_pod_fills_its_log_and_its_partition_of_every_copy(
    settings: Settings, shops: tuple[Shop, Shop], instance: dg.DagsterInstance
) -> None:
    definitions = build_definitions(settings)
    for pod in PODS:
        run(definitions, "drain", instance, partition_key=pod)
        assert materialization(instance, OUTBOX)["unpublished_events"] == 0
        assert materialization(instance, LOG)["events_published"] > 0  # type: ignore[operator]
    for key in (OUTBOX, LOG):
        assert instance.get_materialized_partitions(key) == set(PODS)
    absent = absent_copies(settings)
    assert absent == {ANSWER_CACHE.name, CART.name}
    for name, key in COPY_KEYS.items():
        assert instance.get_materialized_partitions(key) == set(PODS)
        state = "this system has none" if name in absent else "current"
        assert materialization(instance, key)["state"] == state
    with open_lake(settings) as lake:
        assert lake.execute("select count(distinct pod) from lake.raw.events").fetchall() == [(2,)]


def test_comparisons_pass_and_then_find_a_change_that_bypassed_the_outbox(
    settings: Settings, shops: tuple[Shop, Shop], instance: dg.DagsterInstance
) -> None:
    definitions = build_definitions(settings)
    wanted = [dg.AssetCheckKey(LAKE_EVENTS, f"oltp_lake__{kind}") for kind in ("order", "payment")]

    def compare() -> dict[str, dg.AssetCheckEvaluation]:
        job = definitions.resolve_job_def("reconciliation").get_subset(asset_check_selection=set(wanted))
        return checks_of(job.execute_in_process(instance=instance))

    first = compare()
    assert {key.split(":")[1] for key in first} == {"oltp_lake__order", "oltp_lake__payment"}
    assert all(item.passed for item in first.values())
    assert first["lake/events:oltp_lake__order"].metadata["compared"].value > 0  # type: ignore[operator]
    assert {result.pair for result in latest_results(settings.control_dsn)} == {"oltp_lake.order", "oltp_lake.payment"}

    damage(settings)
    second = compare()
    assert not second["lake/events:oltp_lake__order"].passed
    assert second["lake/events:oltp_lake__order"].metadata["differences"].value == 1
    assert second["lake/events:oltp_lake__payment"].passed


OF_PROOFS = ("last_proof_is_recent", "everything_is_compared_in_time")
"""Checks of the same job that look at drills and comparisons, not at the age of data."""


def test_freshness_in_data_time_turns_with_the_oldest_event_and_with_no_backfill(
    settings: Settings, shops: tuple[Shop, Shop], instance: dg.DagsterInstance
) -> None:
    definitions = build_definitions(settings)
    for pod in PODS:
        run(definitions, "drain", instance, partition_key=pod)
    measured = checks_of(run(definitions, "freshness", instance))
    alert_path = measured.pop("trust/alerts:alert_path_is_alive")
    assert not alert_path.passed and alert_path.severity is dg.AssetCheckSeverity.ERROR, "no sender has run"
    # Nothing was ever drilled or compared here, and the checks of that say so.
    for name in [one for one in measured if one.endswith(OF_PROOFS)]:
        assert not measured.pop(name).passed, name
    # The warehouse was never built, which is not yet late; everything else has all there is.
    assert len(measured) == len(COPIES) and all(item.passed for item in measured.values())
    # What dbt judges the freshness of its source by: of pods in which nothing happens, nothing is missing.
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert lake_complete_at(settings, clock=lambda: noon) == noon

    # An hour-old event of pod2 stands in the log, and no consumer runs.
    second = settings.pods[1]
    shops[1].order()
    with psycopg.connect(second.owner_dsn) as connection:
        connection.execute("alter table oltp.outbox disable trigger user")
        connection.execute(
            "update oltp.outbox set recorded_at = recorded_at - interval '1 hour' "
            "where position = (select max(position) from oltp.outbox)"
        )
        connection.execute("alter table oltp.outbox enable trigger user")
    drain_pod(second, settings)

    behind = lake_complete_at(settings, clock=lambda: noon)
    assert behind is not None and noon - behind >= timedelta(hours=1)

    def stale() -> dict[str, float]:
        found = checks_of(run(definitions, "freshness", instance))
        of_data = {key: item for key, item in found.items() if not key.endswith(OF_PROOFS)}
        wrong = {key.partition(":")[0]: item for key, item in of_data.items() if not item.passed}
        wrong.pop("trust/alerts")
        assert all(item.severity is dg.AssetCheckSeverity.ERROR for item in wrong.values())
        # Nothing was ever built, so also pod1's events of just now are not in the marts.
        assert {item.metadata["lag_seconds_pod1"].value for key, item in wrong.items() if "marts" not in key} <= {0.0}
        return {key: item.metadata["lag_seconds_pod2"].value for key, item in wrong.items()}  # type: ignore[misc]

    def fresh() -> set[str]:
        beats = fresh_now(build_platform(settings), dg.build_sensor_context())
        return {beat.asset_key.to_user_string() for beat in beats if beat.partition is None}

    before = stale()
    assert set(before) == {"/".join(copy.asset) for copy in (*PROJECTED, WEBHOOKS, WAREHOUSE)}
    assert min(before.values()) > 3_500
    gauges = {f"freshness/{name}__pod1" for name in ("log", *COPY_KEYS, "warehouse")} | {"freshness/log__pod2"}
    # What this system does not have is not behind.
    gauges |= {f"freshness/{name}__{pod}" for name in absent_copies(settings) for pod in PODS}
    assert fresh() == gauges

    # Draining the other pod again, and rebuilding from old events, turns nothing green, and moves no gauge.
    run(definitions, "drain", instance, partition_key="pod1")
    rebuilt = instance.fetch_materializations(gauge_key("lake", "pod2"), limit=1).records
    assert rebuilt == [] and set(stale()) == set(before) and fresh() == gauges

    run(definitions, "drain", instance, partition_key="pod2")
    assert set(stale()) == {"marts/journal"}
    assert fresh() == gauges | {f"freshness/{name}__pod2" for name in COPY_KEYS}


def test_observing_oltp_counts_every_aggregate(
    settings: Settings, shops: tuple[Shop, Shop], instance: dg.DagsterInstance
) -> None:
    from assets.oltp import oltp_tables
    from orchestration.resources import build_resources

    result = observe([oltp_tables], instance=instance, resources=build_resources(settings))
    assert result.success
    record = instance.fetch_observations(oltp_key("order"), limit=1).records[0]
    assert record.asset_observation is not None
    metadata = {name: value.value for name, value in record.asset_observation.metadata.items()}
    assert metadata["rows"] == metadata["rows_pod1"] + metadata["rows_pod2"] > 0  # type: ignore[operator]
