"""The heartbeat reports a copy only when it keeps up in every pod; upkeep's failures name no password."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import duckdb
import pytest
import yaml

from checks.pairs import comparisons
from contracts.clock import utc_now
from contracts.ownership import copy_named
from contracts.runs import REPAIR_TAG
from orchestration import sensors, upkeep
from orchestration.definitions import build_definitions
from orchestration.jobs import reconciliation_job
from orchestration.snapshot import settings_for_drawing
from stack.dagster_home import write_dagster_home
from streams.lag import ProjectionLag

PODS = ("pod1", "pod2")


def lag(name: str, pod: str, seconds: float, state: str = "current") -> ProjectionLag:
    return ProjectionLag(
        projection=name, pod=pod, applied_cut=1, log_cut=1, lag_events=0, lag_seconds=seconds, parked=0, state=state
    )


def beats(monkeypatch: pytest.MonkeyPatch, lags: dict[str, list[ProjectionLag]]) -> list[tuple[str, str | None]]:
    monkeypatch.setattr(sensors, "lags_of", lambda platform, name: lags[name])
    platform: Any = SimpleNamespace()
    return [(beat.asset_key.to_user_string(), beat.partition) for beat in sensors.copy_beats(platform)]


def test_a_copy_beats_only_when_all_its_pods_keep_up(monkeypatch: pytest.MonkeyPatch) -> None:
    late = copy_named("account_view").freshness_seconds + 1.0
    found = beats(
        monkeypatch,
        {
            "lake": [lag("lake", pod, 0.0) for pod in PODS],
            "account_view": [lag("account_view", "pod1", 0.0), lag("account_view", "pod2", late)],
            "fulfillment_view": [lag("fulfillment_view", "pod1", 0.0, "gap"), lag("fulfillment_view", "pod2", 0.0)],
        },
    )
    assert found == [("lake/events", "pod1"), ("lake/events", "pod2")]


def test_a_failure_of_upkeep_names_no_password(tmp_path: Path) -> None:
    dsn = "postgresql://tieout_lake:geheim@127.0.0.1:1/lake"
    secret = replace(settings_for_drawing(tmp_path), catalog_dsn=dsn)
    with pytest.raises(dg.Failure) as raised, upkeep.without_secrets(secret):
        raise duckdb.IOException(f"no connection to {dsn}")
    assert "geheim" not in str(raised.value.description) and "IOException" in str(raised.value.description)
    assert raised.value.__suppress_context__


def test_old_results_are_pruned_every_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    befores: list[datetime] = []

    def prune(control_dsn: str, before: datetime) -> int:
        befores.append(before)
        return 3

    monkeypatch.setattr(upkeep, "prune_results", prune)
    definitions = build_definitions(settings_for_drawing(tmp_path))
    earliest = utc_now() - timedelta(days=upkeep.RESULTS_KEPT_DAYS)
    with dg.DagsterInstance.ephemeral() as instance:
        assert definitions.resolve_job_def("results_pruning").execute_in_process(instance=instance).success
    assert len(befores) == 1 and earliest <= befores[0] <= utc_now() - timedelta(days=upkeep.RESULTS_KEPT_DAYS)
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
