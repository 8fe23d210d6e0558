"""The repairer: a failed check is repaired by a run that it executes itself, and nothing else repairs meanwhile."""

from __future__ import annotations

import logging.config
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.tags import RUN_KEY_TAG

from assets.copies import COPY_KEYS
from contracts.breaks import BreakState
from contracts.clock import utc_now
from contracts.progress import SILENT
from contracts.runs import BY_TAG, FOUND_BY_TAG, LOCATION, REPAIR_TAG, REPAIRER
from contracts.settings import Settings
from orchestration import repairer as module
from orchestration.definitions import build_definitions
from orchestration.launcher import processes_that_live
from orchestration.repairer import Repairer, build_repairer, instance_for_threads, run_repairer
from orchestration.resources import build_resources
from repair import audit, holding
from repair.ledger import breaks, claim, release
from repair.ledger.looks import is_looked_at
from stack.composition.migrations import migrate_everything
from stack.composition.projections import PROJECTIONS
from stack.composition.reconciling import reconcile_now
from stack.processes.dagster_home import CodeLocation
from stack.settings import ROOT
from tests.integration.reconcile_world import open_shops, propagate

ACCOUNT_VIEW = COPY_KEYS["account_view"]
CHECK = dg.AssetCheckKey(ACCOUNT_VIEW, "lake_account_view")
PAIR = "lake_account_view"


@pytest.fixture
def traded(settings: Settings) -> Settings:
    """Two pods with trade that every copy has, compared once."""
    migrate_everything(settings)
    with open_shops(settings) as shops:
        for shop in shops:
            shop.shipped()
    for pod in settings.pods:
        propagate(settings, pod, PROJECTIONS)
    compare(settings)
    return settings


def compare(settings: Settings) -> None:
    reconcile_now(settings, SILENT, None, pairs=[PAIR])


def damage(settings: Settings, pod: str = "pod1") -> None:
    with psycopg.connect(settings.read_models_dsn) as connection:
        changed = connection.execute(
            "update read_models.account_orders set total_minor = total_minor - 1345 where pod = %s", (pod,)
        )
        assert changed.rowcount == 1


@pytest.fixture
def repairer(traded: Settings, instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[Repairer]:
    location = CodeLocation(name=LOCATION, module="orchestration.definitions", attribute="defs", socket=tmp_path / "s")
    made = build_repairer(traded, instance, location)
    yield made
    made.connections.close()
    made.builder.close()


def waited(repairer: Repairer) -> None:
    for thread in repairer.threads:
        thread.join(120)
        assert not thread.is_alive()


def evaluations(instance: dg.DagsterInstance) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluations since the first one, the oldest first."""
    records = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=20)
    events = [one.event.dagster_event for one in records if one.event is not None]
    return [event.asset_check_evaluation_data for event in reversed(events) if event is not None][1:]


def requests(settings: Settings, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    definitions = build_definitions(settings)
    context = dg.build_sensor_context(
        instance=instance,
        resources=build_resources(settings),
        definitions=definitions,
        sensor_name="repair_open_breaks",
    )
    return list(definitions.resolve_sensor_def("repair_open_breaks").evaluate_tick(context).run_requests or [])


def test_a_failed_check_is_repaired_by_a_run_in_this_process(
    traded: Settings, instance: dg.DagsterInstance, repairer: Repairer
) -> None:
    # Evaluations that Dagster has none of are entered by the sensor, after their assets.
    assert repairer.step() == [] and evaluations(instance) == []
    checks = build_definitions(traded).resolve_job_def("reconciliation").get_subset(asset_check_selection={CHECK})
    assert checks.execute_in_process(instance=instance).success

    damage(traded)
    compare(traded)
    assert repairer.step() == ["pod1"]
    assert requests(traded, instance) == []
    waited(repairer)
    failed, green = evaluations(instance)
    (repaired,) = breaks(traded.control_dsn, states=[BreakState.REPAIRED])
    (run,) = instance.get_runs(dg.RunsFilter(job_name="repair_pod1"))
    assert run.status is DagsterRunStatus.SUCCESS
    assert set(processes_that_live(instance, run)) == {os.getpid()}
    assert run.tags[REPAIR_TAG] == "pod1" and run.tags[BY_TAG] == REPAIRER and run.tags[FOUND_BY_TAG]
    # By this tag the pages list a run under its code location.
    shown = dg.RunsFilter(tags={".dagster/repository": f"__repository__@{LOCATION}"})
    assert [one.run_id for one in instance.get_runs(shown)] == [run.run_id]
    assert run.remote_job_origin is not None and run.job_code_origin is not None
    assert not failed.passed and green.passed and green.metadata["repaired_by"].value == run.run_id
    assert green.metadata["groups_worked_on"].value == str(repaired.group_id)
    assert repairer.step() == []


@pytest.mark.in_turn
def test_what_fails_outside_dagster_is_entered_at_once(
    traded: Settings, instance: dg.DagsterInstance, repairer: Repairer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = build_definitions(traded).resolve_job_def("reconciliation").get_subset(asset_check_selection={CHECK})
    assert checks.execute_in_process(instance=instance).success
    repairer.step()
    damage(traded)
    compare(traded)
    # Somebody else repairs: the verdict is entered, and nothing is begun.
    assert claim(traded.control_dsn, run="somebody", limit=9, lease_seconds=60)
    assert repairer.step() == []
    (failed,) = evaluations(instance)
    assert not failed.passed
    release(traded.control_dsn, "somebody", reason="not now")
    assert repairer.step() == ["pod1"]
    waited(repairer)


@pytest.mark.in_turn
def test_a_place_in_the_queue_and_another_run_of_the_pod_are_waited_for(
    traded: Settings, instance: dg.DagsterInstance, repairer: Repairer, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(traded)
    damage(traded, "pod2")
    compare(traded)
    with monkeypatch.context() as patch:
        patch.setattr(Repairer, "_has_place", lambda *_: False)
        assert repairer.step() == []
    job = repairer.jobs["pod1"]
    queued = instance.create_run_for_job(job, tags={REPAIR_TAG: "pod1"}, status=DagsterRunStatus.NOT_STARTED)
    assert repairer.step() == ["pod2"]
    waited(repairer)
    assert repairer.step() == []
    instance.delete_run(queued.run_id)
    assert repairer.step() == ["pod1"]
    waited(repairer)
    assert breaks(traded.control_dsn, states=[BreakState.OPEN]) == []


def test_a_repair_that_builds_keeps_no_other_of_its_pod_waiting(
    traded: Settings, instance: dg.DagsterInstance, repairer: Repairer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, gave_back, is_built = traded.control_dsn, threading.Event(), threading.Event()

    def builds(_job: object, run: dg.DagsterRun, _instance: object) -> Iterator[None]:
        with holding.holding_pods(dsn, ["pod1"]) as held, holding.living(run.run_id):
            audit.begin_run(dsn, run.run_id, ["pod1"], utc_now())
            assert claim(dsn, run=run.run_id, limit=9, lease_seconds=600)
            held.give_back(run.run_id)
            gave_back.set()
            assert is_built.wait(60)
            audit.end_run(dsn, run.run_id, "done", utc_now())
        yield from ()

    damage(traded)
    compare(traded)
    with monkeypatch.context() as patch:
        patch.setattr(module, "execute_run_iterator", builds)
        assert repairer.step() == ["pod1"]
        assert gave_back.wait(60)
    with psycopg.connect(traded.read_models_dsn) as connection:
        connection.execute("delete from read_models.account_payments where pod = 'pod1'")
    compare(traded)
    assert repairer.step() == ["pod1"] and repairer.is_at_work
    _, second = repairer.repairs["pod1"]
    second.join(120)
    by_entity = {item.entity: item.state for item in breaks(dsn)}
    assert by_entity["account_payments"] is BreakState.REPAIRED
    assert repairer.is_at_work
    is_built.set()
    waited(repairer)


def test_without_a_repairer_that_looks_the_sensor_requests_the_repair(
    traded: Settings, instance: dg.DagsterInstance, repairer: Repairer
) -> None:
    damage(traded)
    compare(traded)
    (request,) = requests(traded, instance)
    with psycopg.connect(traded.control_dsn) as connection:
        connection.execute("insert into trust.looks values (%s, now() - interval '29 seconds')", (REPAIRER,))
    assert requests(traded, instance) == []
    with psycopg.connect(traded.control_dsn) as connection:
        connection.execute("update trust.looks set looked_at = now() - interval '31 seconds'")
    assert [one.run_key for one in requests(traded, instance)] == [request.run_key]
    assert not is_looked_at(traded.control_dsn, REPAIRER, 30)

    # The run that the sensor has requested is not done twice.
    job = repairer.jobs["pod1"]
    tags = {RUN_KEY_TAG: str(request.run_key)}
    done = instance.create_run_for_job(job, tags=tags, status=DagsterRunStatus.FAILURE)
    assert repairer.step() == [] and is_looked_at(traded.control_dsn, REPAIRER, 30)
    instance.delete_run(done.run_id)


@pytest.mark.in_turn
def test_a_run_that_its_repairer_has_left_is_failed_by_the_next_one(
    traded: Settings, instance: dg.DagsterInstance, repairer: Repairer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = {REPAIR_TAG: "pod1", BY_TAG: REPAIRER}
    left = instance.create_run_for_job(repairer.jobs["pod1"], tags=tags, status=DagsterRunStatus.STARTED)
    damage(traded)
    compare(traded)
    assert repairer.step() == []
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    stop = threading.Event()
    begin = repairer.step

    def step() -> list[str]:
        stop.set()
        return begin()

    monkeypatch.setattr(repairer, "step", step)
    assert not run_repairer(repairer, stop, threading.Event())
    waited(repairer)
    ended = instance.get_run_by_id(left.run_id)
    assert ended is not None and ended.status is DagsterRunStatus.FAILURE
    assert breaks(traded.control_dsn, states=[BreakState.OPEN]) == []


@pytest.mark.in_turn
def test_another_attempt_waits_and_an_error_of_dagster_ends_the_run(
    traded: Settings, instance: dg.DagsterInstance, repairer: Repairer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    repairer.monotonic = lambda: now
    damage(traded)
    compare(traded)

    def fails(*_: object) -> Iterator[None]:
        raise RuntimeError("Dagster's storage is away")

    with monkeypatch.context() as patch:
        patch.setattr(module, "execute_run_iterator", fails)
        assert repairer.step() == ["pod1"]
        waited(repairer)
    (run,) = instance.get_runs()
    assert run.status is DagsterRunStatus.FAILURE
    # The same breaks are not requested again at once; another attempt at them is, after its pause.
    assert repairer.step() == []
    with psycopg.connect(traded.control_dsn) as connection:
        connection.execute("update trust.breaks set repairs = 1")
    now += 9
    assert repairer.step() == []
    now += 2
    assert repairer.step() == ["pod1"]
    waited(repairer)
    assert breaks(traded.control_dsn, states=[BreakState.OPEN]) == []


def test_changed_code_is_loaded_after_the_repairs(repairer: Repairer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    stop, changed, go_on = threading.Event(), threading.Event(), threading.Event()
    repairer.threads = [threading.Thread(target=go_on.wait, daemon=True)]
    repairer.threads[0].start()
    changed.set()
    threading.Timer(0.1, go_on.set).start()
    assert run_repairer(repairer, stop, changed) and go_on.is_set()
    repairer.settings = replace(repairer.settings, repairer_memory_mb=1)
    assert run_repairer(repairer, stop, threading.Event())


def test_the_output_of_a_repair_is_not_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("run_queue:\n  max_concurrent_runs: 3\n")
    with instance_for_threads() as instance:
        assert isinstance(instance.compute_log_manager, NoOpComputeLogManager)
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None and queue.max_concurrent_runs == 3


def test_a_run_does_not_configure_the_logging_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two repairs wait for each other: one that logs holds its handler, one that begins all loggers' lock."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(
        "python_logs:\n  dagster_handler_config:\n    handlers:\n      mine:\n        class: logging.NullHandler\n"
    )

    @dg.job(executor_def=dg.in_process_executor)
    def nothing() -> None: ...

    def refuse(configuration: object) -> None:
        raise AssertionError(f"the process's logging was configured anew: {configuration}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        with instance_for_threads() as instance:
            monkeypatch.setattr(logging.config, "dictConfig", refuse)
            (handler,) = instance.get_yaml_python_handlers()
            assert isinstance(handler, logging.NullHandler) and handler in instance.get_handlers()
            assert nothing.execute_in_process(instance=instance).success


def test_a_repairer_that_hangs_says_where_and_ends() -> None:
    hanging = """
import threading
from types import SimpleNamespace
from orchestration import repairer as module

module.HUNG_SECONDS, module.LOOK_SECONDS, module.scrubber = 0.5, 0.01, lambda settings: str

def it_hangs():
    threading.Event().wait(60)

stuck = SimpleNamespace(settings=None, end_lost_runs=lambda: None, step=it_hangs)
module.run_repairer(stuck, threading.Event(), threading.Event())
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", hanging],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1 and "it_hangs" in done.stderr
