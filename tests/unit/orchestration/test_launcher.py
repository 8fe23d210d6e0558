"""A run whose process is gone is noticed, though the code server that would have said so went with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.dagster_run import DagsterRunStatus

from orchestration.launcher import WatchedRunLauncher, is_living


@dg.job
def some_job() -> None:
    """Do nothing."""


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_process_is_told_from_the_next_one_with_its_number() -> None:
    began = psutil.Process().create_time()
    assert is_living(os.getpid(), began + 1) and not is_living(os.getpid(), began - 1)
    assert not is_living(ended_process(), time.time())


@pytest.mark.parametrize(("is_there", "status"), [(True, WorkerStatus.RUNNING), (False, WorkerStatus.FAILED)])
def test_monitoring_hears_of_a_run_that_ended_without_a_word(
    tmp_path: Path, is_there: bool, status: WorkerStatus
) -> None:
    launcher = {"run_launcher": {"module": "orchestration.launcher", "class": "WatchedRunLauncher"}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=launcher) as instance:
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        assert instance.run_launcher.supports_check_run_worker_health
        run = instance.create_run_for_job(some_job, status=DagsterRunStatus.STARTED)
        assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        process_id = os.getpid() if is_there else ended_process()
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(process_id))
        assert instance.run_launcher.check_run_worker_health(run).status is status


def test_a_run_whose_process_began_late_is_not_started_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(DefaultRunLauncher, "launch_run", lambda _, context: started.append(context.dagster_run.run_id))
    launcher = {"run_launcher": {"module": "orchestration.launcher", "class": "WatchedRunLauncher"}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=launcher) as instance:
        # Its caller gave up while the code server was slow, and the run came into the queue again.
        run = instance.create_run_for_job(some_job, status=DagsterRunStatus.STARTING)
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(ended_process()))
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        assert started == [run.run_id], "a process that has ended is no obstacle"
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(os.getpid()))
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        assert started == [run.run_id]
