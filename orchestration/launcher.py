"""Starting a run's process only once, and noticing runs whose process ended without a report.

A power cut kills a run and also the code server that would have reported the run's end. Dagster's own launcher never
checks, so such a run would stay "started" until somebody ends it. Because only one run per tag may be in progress, no
other reconciliation, and no other repair of its pod, could begin. A second problem: a slow code server can start a
run's process after its caller has timed out and put the run back into the queue; the run would then start twice.

Belongs here: the answers to both. Does not belong here: what a killed repair leaves behind (`repair/audit.py`).
"""

from __future__ import annotations

import psutil
from dagster import DagsterEventType, DagsterInstance, DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's launcher on this machine, which can also tell whether a run's process lives (see `dagster.yaml`)."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True: Dagster's monitoring may ask for the health of a run's process."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start a run's process, unless a process from an earlier attempt still lives."""
        run = context.dagster_run
        if processes_that_live(self._instance, run):
            self._instance.report_engine_event("The run's process is there already; no other one is started.", run)
            return
        super().launch_run(context)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return the health of a started run: failed if none of its processes lives any more."""
        numbers = processes_of(self._instance, run)
        if not numbers or processes_that_live(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        message = f"its process {numbers[-1][0]} is gone, and nobody has said how it ended"
        return CheckRunHealthResult(WorkerStatus.FAILED, message)


def processes_of(instance: DagsterInstance, run: DagsterRun) -> list[tuple[int, float]]:
    """Return each process that began a run: (process id, seconds since 1970 when it reported its start)."""
    started = instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
    return [
        (int(str(entry.dagster_event.engine_event_data.metadata["pid"].value)), entry.timestamp)
        for entry in started
        if entry.dagster_event and "pid" in entry.dagster_event.engine_event_data.metadata
    ]


def processes_that_live(instance: DagsterInstance, run: DagsterRun) -> list[int]:
    """Return the ids of the processes that began a run and are still there."""
    return [process_id for process_id, at in processes_of(instance, run) if is_living(process_id, at)]


def is_living(process_id: int, seen_at: float) -> bool:
    """Return whether the process that had this id at a moment (seconds since 1970) is still there."""
    try:
        process = psutil.Process(process_id)
        return process.create_time() <= seen_at and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
