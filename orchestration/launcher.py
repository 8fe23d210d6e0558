"""Starting runs once, and noticing that one has ended without a word: a power cut takes a run and the code server that
would have reported it.

Dagster's own launcher never asks, so such a run stays "started" for ever: with the limit of one run per tag no other
reconciliation, and no other repair of its pod, would begin again. And a slow code server starts a run's process after
its caller has given up and put the run back into the queue: it would be started twice. Belongs here: both questions.
Does not belong here: what a repair that was killed leaves behind (`repair/audit.py`).
"""

from __future__ import annotations

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's launcher on this machine, with an answer to whether the process of a run lives (`dagster.yaml`)."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Let Dagster's monitoring ask."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start a run's process, unless an earlier attempt has started one that still lives."""
        run = context.dagster_run
        if any(is_living(process_id, at) for process_id, at in self._processes_of(run)):
            self._instance.report_engine_event("The run's process is there already; no other one is started.", run)
            return
        super().launch_run(context)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a run that has begun and not ended is there; one that is not has failed."""
        numbers = self._processes_of(run)
        if not numbers or any(is_living(process_id, at) for process_id, at in numbers):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        message = f"its process {numbers[-1][0]} is gone, and nobody has said how it ended"
        return CheckRunHealthResult(WorkerStatus.FAILED, message)

    def _processes_of(self, run: DagsterRun) -> list[tuple[int, float]]:
        """Return (process id, seconds since 1970 when it said so) of every process that has begun a run."""
        started = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        return [
            (int(str(entry.dagster_event.engine_event_data.metadata["pid"].value)), entry.timestamp)
            for entry in started
            if entry.dagster_event and "pid" in entry.dagster_event.engine_event_data.metadata
        ]


def is_living(process_id: int, seen_at: float) -> bool:
    """Return whether the process that had this id at a moment (seconds since 1970) is still there."""
    try:
        process = psutil.Process(process_id)
        return process.create_time() <= seen_at and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
