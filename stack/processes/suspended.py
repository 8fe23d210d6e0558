"""Workers whose process is suspended (SIGSTOP): noticed by the process that keeps everything up, and killed.

A suspended process does nothing and does not end, so its supervisor takes it for running and its copy only grows late.
After the kill the supervisor starts the worker again, and it goes on from its position. Only what nobody resumes for
`SUSPENDED_SECONDS_MAX` is killed, and nothing that a debugger holds.

Belongs here: noticing and killing. Does not belong here: counting restarts (`stack/processes/restarts.py`); a worker
that runs and does not move, which only its copy's lag shows (`stack/upkeep/lagging.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from stack.processes import restarts, tracking
from stack.processes.supervision import Supervisor

SUSPENDED_SECONDS_MAX = 180.0
"""Damages and disturbances suspend a worker for shorter than this (`stack/composition/damaging.py`)."""
LOOK_SECONDS = 10.0


@dataclass(kw_only=True)
class SuspendedWatch:
    """Looks at the workers of one supervisor; one process at a time uses it."""

    supervisor: Supervisor
    seconds_max: float = SUSPENDED_SECONDS_MAX
    clock: Callable[[], float] = time.monotonic
    _since: dict[int, float] = field(default_factory=dict)
    """Process id -> when it was first seen suspended."""
    _looked: float | None = None

    def look_if_due(self) -> list[str]:
        """Look, unless it was done just before; return the names of the workers that were killed."""
        now = self.clock()
        if self._looked is not None and now - self._looked < LOOK_SECONDS:
            return []
        self._looked = now
        return self.look_once()

    def look_once(self) -> list[str]:
        """Kill each worker that has been suspended for too long; return their names."""
        now, suspended = self.clock(), {process.pid: process for process in self._suspended()}
        self._since = {number: self._since.get(number, now) for number in suspended}
        too_long = {number for number, since in self._since.items() if now - since >= self.seconds_max}
        if not too_long:
            return []
        names = sorted(state.name for state in self.supervisor.states() if state.process_id in too_long)
        for number in too_long:
            tracking.kill_tree(suspended[number])
        restarts.note_suspended(self.supervisor.folder, names)
        return names

    def _suspended(self) -> list[psutil.Process]:
        found = []
        for process in self.supervisor.workers():
            with suppress(psutil.Error):
                if process.status() == psutil.STATUS_STOPPED:
                    found.append(process)
        return found
