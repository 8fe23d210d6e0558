"""The heartbeat reports a gauge only while its copy keeps up with the pod; upkeep's failures name no password."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import duckdb
import pytest
import yaml

from assets.gauges import gauge_key
from assets.graph import LAKE_EVENTS
from checks.freshness import DataLag, freshness_result
from checks.pairs import comparisons
from contracts.clock import utc_now
from contracts.ownership import COPIES, copy_named
from contracts.runs import REPAIR_TAG
from orchestration import sensors, upkeep
from orchestration.definitions import build_definitions
from orchestration.jobs import reconciliation_job
from orchestration.unstarted import settings_for_drawing
from reconcile.retention import Pruned
from stack.processes.dagster_home import write_dagster_home

PODS = ("pod1", "pod2")


def lag(pod: str, seconds: float, **more: Any) -> DataLag:
    return DataLag(pod=pod, lag_seconds=seconds, lag_events=0, **more)


def test_a_gauge_beats_only_while_its_pod_keeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    late = copy_named("account_view").freshness_seconds + 1.0
    lags = {
        "log": [lag("pod1", 0.0), lag("pod2", late)],
        "lake": [lag(pod, 0.0) for pod in PODS],
        "account_view": [lag("pod1", 0.0), lag("pod2", late)],
        "fulfillment_view": [lag("pod1", 0.0, fault="has a gap"), lag("pod2", 0.0, parked=1)],
    }
    monkeypatch.setattr(sensors, "lags_of", lambda platform, name: lags[name])  # the warehouse does not answer
    platform: Any = SimpleNamespace()
    found = list(sensors.fresh_now(platform, dg.build_sensor_context()))
    assert [(beat.asset_key.to_user_string(), beat.partition) for beat in found] == [
        ("freshness/log__pod1", None),
        ("freshness/lake__pod1", None),
        ("lake/events", "pod1"),
        ("freshness/lake__pod2", None),
        ("lake/events", "pod2"),
        ("freshness/account_view__pod1", None),
        ("read_models/account_view", "pod1"),
    ]
    # A materialization of a copy would make its checks count as not evaluated, each minute anew.
    assert {type(beat) for beat in found if beat.partition is not None} == {dg.AssetObservation}
    assert {type(beat) for beat in found if beat.partition is None} == {dg.AssetMaterialization}


def test_policies_are_on_gauges_and_nothing_can_materialize_a_gauge(tmp_path: Path) -> None:
    graph = build_definitions(settings_for_drawing(tmp_path)).resolve_asset_graph()
    policed = {key for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy is not None}
    assert policed == {gauge_key(copy.name, pod) for copy in COPIES for pod in PODS}
    assert not policed & set(graph.executable_asset_keys)


def test_a_copy_is_judged_by_the_oldest_event_that_it_lacks() -> None:
    copy = copy_named("account_view")

    def found(*lags: DataLag) -> tuple[bool | None, dg.AssetCheckSeverity]:
        result = freshness_result(copy, LAKE_EVENTS, lags)
        return result.passed, result.severity

    idle = lag("pod2", 0.0)
    assert found(lag("pod1", float(copy.freshness_seconds)), idle)[0]
    assert found(lag("pod1", copy.freshness_seconds + 1.0), idle) == (False, dg.AssetCheckSeverity.WARN)
    assert found(idle, lag("pod1", copy.late_seconds_max + 1.0)) == (False, dg.AssetCheckSeverity.ERROR)
    assert found(idle, lag("pod1", 0.0, fault="has a gap")) == (False, dg.AssetCheckSeverity.ERROR)
    assert found(idle, lag("pod1", 0.0, parked=1)) == (False, dg.AssetCheckSeverity.WARN)


def test_a_failure_of_upkeep_names_no_password(tmp_path: Path) -> None:
    dsn = "postgresql://tieout_lake:geheim@127.0.0.1:1/lake"
    secret = replace(settings_for_drawing(tmp_path), catalog_dsn=dsn)
    with pytest.raises(dg.Failure) as raised, upkeep.without_secrets(secret):
        raise duckdb.IOException(f"no connection to {dsn}")
    assert "geheim" not in str(raised.value.description) and "IOException" in str(raised.value.description)
    assert raised.value.__suppress_context__


def test_old_results_are_pruned_every_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[datetime] = []

    def prune(control_dsn: str, now: datetime) -> Pruned:
        asked.append(now)
        return Pruned(results=3, figures=2, sightings=1)

    monkeypatch.setattr(upkeep, "prune_comparisons", prune)
    definitions = build_definitions(settings_for_drawing(tmp_path))
    began = utc_now()
    with dg.DagsterInstance.ephemeral() as instance:
        assert definitions.resolve_job_def("results_pruning").execute_in_process(instance=instance).success
    assert len(asked) == 1
    assert began <= asked[0] <= utc_now()
    schedule = definitions.resolve_schedule_def("results_pruning_schedule")
    assert str(schedule.cron_schedule).endswith(" * * * *")


def test_dagster_keeps_what_its_dsn_asks_for(tmp_path: Path) -> None:
    drawing = settings_for_drawing(tmp_path)
    asked = f"{drawing.dagster_dsn.partition('?')[0]}?sslmode=verify-full&application_name=tieout"
    home = write_dagster_home(replace(drawing, dagster_dsn=asked))
    written = yaml.safe_load((home / "dagster.yaml").read_text())["storage"]["postgres"]["postgres_db"]
    assert written["params"] == {"sslmode": "verify-full", "application_name": "tieout"}


def test_of_a_pods_repairs_one_at_a_time_goes(tmp_path: Path) -> None:
    home = write_dagster_home(settings_for_drawing(tmp_path))
    limits = yaml.safe_load((home / "dagster.yaml").read_text())["concurrency"]["runs"]["tag_concurrency_limits"]
    (mine,) = (entry for entry in limits if entry["key"] == REPAIR_TAG)
    assert mine == {"key": REPAIR_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}


def test_comparisons_do_not_pile_up(tmp_path: Path) -> None:
    home = write_dagster_home(settings_for_drawing(tmp_path))
    limits = yaml.safe_load((home / "dagster.yaml").read_text())["concurrency"]["runs"]["tag_concurrency_limits"]
    (mine,) = (entry for entry in limits if entry["key"] == "tieout/reconciliation")
    assert mine == {"key": "tieout/reconciliation", "limit": 1}
    assert mine["key"] in (reconciliation_job(comparisons).tags or {})
