"""The timetable of the routines when Dagster does not run: `tieout up --no-ui`, or servers without Dagster.

The times are those of Dagster's schedules (`orchestration/definitions.py`). Each routine runs in its own process, so
that its memory is returned and a routine that hangs does not block the worker's other loops. Only a repair runs in the
worker's process, because it should begin at once; the worker begins anew when it has grown too large. No routine runs
twice at once. A routine that was missed while the system was down runs once when it is up again. Suites of expectations
are not run here, because they need Dagster.

Belongs here: the times, and starting these processes. Does not belong here: what they do (`stack/upkeep/routine.py`).
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from time import monotonic

from contracts.clock import Clock, utc_now
from contracts.settings import Settings
from reconcile.rounds import is_reconciling
from stack.files import write_private
from stack.scrubbing import scrubber
from stack.settings import ROOT
from stack.upkeep.watching import FOLDER

FILE = "routines.json"
LOOK_SECONDS = 10.0
REPAIR_LOOK_SECONDS = 1.0
STOP_SECONDS = 15.0
END_LOOK_SECONDS = 0.2
REPAIR, EXPIRE, CHANGES = "repair", "expire_reservations", "compare_changes"
REPAIR_AGAIN = timedelta(minutes=10)
"""When a repair could not claim its breaks, the next repair of the same breaks begins after this time."""

logger = logging.getLogger("tieout.timetable")


@dataclass(frozen=True, kw_only=True)
class Routine:
    """When a routine is due: at an interval (`every`), or once a day at a time (`at`, UTC)."""

    name: str
    every: timedelta | None = None
    at: time | None = None

    def is_due(self, last: datetime, now: datetime) -> bool:
        """Return whether the routine is due at `now`, when it last began at `last`."""
        if self.every is not None:
            return now - last >= self.every
        assert self.at is not None
        today = datetime.combine(now.astimezone(UTC).date(), self.at, tzinfo=UTC)
        newest = today if today <= now else today - timedelta(days=1)
        return last < newest


ROUTINES = (
    Routine(name=EXPIRE, every=timedelta(minutes=1)),
    Routine(name=CHANGES, every=timedelta(minutes=10)),
    Routine(name="compact_lake", every=timedelta(hours=1)),
    Routine(name="trim_log", every=timedelta(hours=1)),
    Routine(name="prune_results", every=timedelta(hours=1)),
    Routine(name="compare_everything", at=time(1, 47)),
    Routine(name="drill", at=time(2, 17)),
    Routine(name="prune_outboxes", at=time(3, 41)),
    Routine(name="prune_keys", at=time(4, 11)),
)


@dataclass(kw_only=True)
class Timetable:
    """Runs the routines of one stack when they are due; no routine runs twice at the same time."""

    settings: Settings
    stop: threading.Event
    clock: Clock = utc_now
    run: Callable[[str], int] | None = None
    """Runs a routine and returns its exit code; by default in a child process, a repair in this one."""
    is_reconciling: Callable[[datetime], bool] | None = None
    """Whether a reconciler compares all the time at that moment; by default the control database says so."""
    last: dict[str, datetime] = field(default_factory=dict)
    asked: tuple[str, int, int] | None = None
    running: list[str] = field(default_factory=list)
    """The routines that run now."""

    def loops(self) -> list[tuple[Callable[[], object], float]]:
        """Return functions to call, each with its interval in seconds: expiry, the other routines, repairs."""
        self._load()
        quick = [one for one in ROUTINES if one.name == EXPIRE]
        rest = [one for one in ROUTINES if one.name != EXPIRE]
        return [
            (lambda: self.look(quick), LOOK_SECONDS),
            (lambda: self.look(rest), LOOK_SECONDS),
            (self.repair_if_needed, REPAIR_LOOK_SECONDS),
        ]

    def look(self, routines: list[Routine] | tuple[Routine, ...] = ROUTINES) -> list[str]:
        """Run the routines that are due, one after the other; return the names of those that ran."""
        ran = []
        for routine in routines:
            now = self.clock()
            # Nothing is due at the first start of a system, because its first pass has just compared everything.
            if routine.name not in self.last:
                self._begun(routine.name, now)
            elif routine.is_due(self.last[routine.name], now) and not self.stop.is_set():
                self._begun(routine.name, now)
                if routine.name == CHANGES and self._is_reconciling(now):
                    continue
                self._run(routine.name)
                ran.append(routine.name)
        return ran

    def repair_if_needed(self) -> bool:
        """Run a repair when breaks wait in a pod in which no repair has claimed breaks; return whether one ran."""
        from repair.holding import abandoned_runs, runs_without_pods
        from repair.ledger.incidents import waiting_for_repair
        from streams.clocks import database_clock

        dsn = self.settings.control_dsn
        now = database_clock(dsn)()
        waiting = waiting_for_repair(dsn, now, abandoned_runs(dsn), runs_without_pods(dsn))
        free = [one for one in waiting if not one.is_claimed]
        if not free:
            return False
        asked = (",".join(one.pod for one in free), max(one.newest_break_id for one in free), free[0].attempt)
        if asked == self.asked and now - self.last.get(REPAIR, now) < REPAIR_AGAIN:
            return False
        self.asked = asked
        self._begun(REPAIR, now)
        self._run(REPAIR)
        return True

    def wait_for_repair(self, seconds: float) -> None:
        """Wait until no repair runs, at most this long: one that is cut off leaves its breaks to the next one."""
        deadline = monotonic() + seconds
        while REPAIR in self.running and monotonic() < deadline:
            threading.Event().wait(END_LOOK_SECONDS)

    def _is_reconciling(self, now: datetime) -> bool:
        if self.is_reconciling is not None:
            return self.is_reconciling(now)
        return is_reconciling(self.settings.control_dsn, now)

    def _begun(self, name: str, now: datetime) -> None:
        self.last[name] = now
        with suppress(OSError):  # on a full disk the time is lost, so the routine runs again after a restart
            text = json.dumps({name: at.isoformat() for name, at in self.last.items()})
            write_private(self.settings.var_dir / FOLDER / FILE, text)

    def _load(self) -> None:
        with suppress(OSError, ValueError, AttributeError, TypeError):
            kept = json.loads((self.settings.var_dir / FOLDER / FILE).read_text(encoding="utf-8"))
            self.last = {name: datetime.fromisoformat(at) for name, at in kept.items()}

    def _run(self, name: str) -> None:
        run = self.run or (self._here if name == REPAIR else self._in_a_process)
        self.running.append(name)
        try:
            code = run(name)
        finally:
            self.running.remove(name)
        if code and not self.stop.is_set():
            logger.warning("%s ended with exit code %d; its lines are above", name, code)

    def _here(self, name: str) -> int:
        from stack.upkeep.routine import ROUTINES as WORK

        try:
            WORK[name](self.settings)
        except Exception as error:  # any error: log it without passwords; the next run may succeed
            logger.error("%s: %s", name, scrubber(self.settings)(f"{type(error).__name__}: {error}"))
            return 1
        return 0

    def _in_a_process(self, name: str) -> int:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "stack.upkeep.worker", "once", "--routine", name], cwd=ROOT
        )
        try:
            while child.poll() is None:
                if self.stop.wait(0.5):
                    child.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(STOP_SECONDS)
                    break
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
        return child.returncode
