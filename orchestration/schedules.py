"""When what runs by itself. Times are UTC; all of it can also be started by hand."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

RUNNING = dg.DefaultScheduleStatus.RUNNING


def every(job: ExecutableDefinition, cron: str, description: str) -> dg.ScheduleDefinition:
    """Return a schedule that runs from the first start on."""
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=RUNNING,
        description=description,
    )
