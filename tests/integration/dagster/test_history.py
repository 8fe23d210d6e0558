"""What Dagster keeps is bounded: old runs and heartbeats go, the newest of everything stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus

from contracts.clock import utc_now
from contracts.settings import Settings
from orchestration import history
from orchestration.definitions import build_definitions
from orchestration.unstarted import settings_for_drawing
from stack.processes.dagster_home import write_dagster_home
from tests.conftest import MakeDatabase

KEPT, SEEN = dg.AssetKey("kept"), dg.AssetKey("seen")


@pytest.fixture
def stored(make_database: MakeDatabase, tmp_path: Path) -> Settings:
    return replace(settings_for_drawing(tmp_path), dagster_dsn=make_database("tieout_dagster"))


@pytest.fixture
def instance(stored: Settings) -> Iterator[dg.DagsterInstance]:
    """Dagster's own storage in PostgreSQL, as the stack configures it."""
    with dg.DagsterInstance.from_config(str(write_dagster_home(stored))) as made:
        yield made


@dg.asset(key=KEPT)
def kept_asset() -> None:
    """Be materialized by a run."""


def age(dagster_dsn: str) -> None:
    """Make everything that is stored a year older."""
    with psycopg.connect(dagster_dsn) as connection:
        for table, column in (
            ("event_logs", "timestamp"),
            ("asset_check_executions", "create_timestamp"),
            ("runs", "create_timestamp"),
        ):
            connection.execute(f"update {table} set {column} = {column} - interval '1 year'")


def test_old_history_goes_and_the_newest_of_everything_stays(
    stored: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = dg.AssetCheckEvaluation(asset_key=SEEN, check_name="holds", passed=True)
    for number in range(3):
        for partition in ("pod1", "pod2", None):
            instance.report_runless_asset_event(
                dg.AssetMaterialization(SEEN, partition=partition, metadata={"number": number})
            )
        instance.report_runless_asset_event(evaluation)
    assert dg.materialize([kept_asset], instance=instance).success
    holding = instance.get_runs()[0].run_id
    job = build_definitions(stored).resolve_job_def("log_trimming")
    doomed = [instance.create_run_for_job(job, status=DagsterRunStatus.SUCCESS).run_id for _ in range(3)]
    waiting = instance.create_run_for_job(job, status=DagsterRunStatus.NOT_STARTED).run_id
    logs = [Path(instance.storage_directory()) / run_id / "compute_logs" for run_id in (*doomed, waiting)]
    for folder in logs:
        folder.mkdir(parents=True)
    age(stored.dagster_dsn)
    recent = instance.create_run_for_job(job, status=DagsterRunStatus.FAILURE).run_id
    instance.report_runless_asset_event(dg.AssetMaterialization(SEEN, partition="pod1", metadata={"number": 3}))

    # A pass does a bounded part, the next one goes on.
    monkeypatch.setattr(history, "RUNS_PER_PASS", 2)
    pruning = build_definitions(stored).resolve_job_def("history_pruning")
    left = []
    for _ in range(2):
        assert pruning.execute_in_process(instance=instance).success
        left.append({run.run_id for run in instance.get_runs() if run.job_name == "log_trimming"})
    assert len(left[0] & set(doomed)) == 1
    assert left[1] == {waiting, recent} and instance.has_run(holding)
    assert [folder.exists() for folder in logs] == [False, False, False, True]

    numbers = {
        (record.partition_key, value.value)
        for record in instance.fetch_materializations(SEEN, limit=100).records
        if record.asset_materialization is not None
        for value in record.asset_materialization.metadata.values()
    }
    assert numbers == {("pod1", 3), ("pod2", 2), (None, 2)}
    assert instance.get_materialized_partitions(SEEN) == {"pod1", "pod2"}
    key = dg.AssetCheckKey(SEEN, "holds")
    assert len(instance.event_log_storage.get_asset_check_execution_history(key, limit=10)) == 1
    assert instance.get_latest_materialization_event(KEPT) is not None
    assert history.prune_events(stored.dagster_dsn, utc_now() + timedelta(days=365)) == (0, 0)
