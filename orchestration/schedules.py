"""How schedules are declared. Times are UTC; every scheduled job can also be started by hand.

Belongs here: what all schedules share. Does not belong here: the times (`definitions.py`, `warehouse.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

from contracts.clock import utc_now
from contracts.settings import Settings
from reconcile.rounds import is_reconciling

RUNNING = dg.DefaultScheduleStatus.RUNNING
CHANGES = "Compares what changed, and the sweep's next part, unless a reconciler does so all the time."


def every(
    job: ExecutableDefinition, cron: str, description: str, *, unless: Callable[[], bool] | None = None
) -> dg.ScheduleDefinition:
    """Return a schedule that is switched on from the first start; it starts no run while `unless` returns true."""
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=RUNNING,
        should_execute=None if unless is None else lambda _: not unless(),
        description=description,
    )


def reconciling(settings: Settings) -> Callable[[], bool]:
    """Return a function that says whether a reconciler compares all the time."""
    return lambda: is_reconciling(settings.control_dsn, utc_now())
