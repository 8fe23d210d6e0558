"""Runs drills in a child process (`stack/upkeep/drill_system.py`), and stores their evidence.

Belongs here: starting that process with an environment that names no other servers, evidence files, the record in the
control database. Does not belong here: what is drilled (`drills/`), the command (`cli/commands/drills.py`).
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from contracts.clock import utc_now
from contracts.drills import DRILLS, Drill
from contracts.errors import StackError
from contracts.settings import Settings
from drills.evidence_files import DrillRun, write_evidence, write_page
from drills.observing import Outcome, held, outcome_from_json
from drills.records import record
from stack.code_version import code_version
from stack.composition.session import DRILL_LOCK, DRILLED_SYSTEM, DRILLS_FOLDER
from stack.ports import LOOPBACK
from stack.processes import tracking
from stack.settings import PREFIX, ROOT

ORDERS_PER_SECOND = 2.0
END_PATIENCE_SECONDS = 120.0
STOP_SIGNALS = ((signal.SIGTERM, 90.0), (signal.SIGKILL, 5.0))
"""After the first signal the drill process stops and deletes its servers and workers."""

LOG = "drill.log"

OnStep = Callable[[str], None]
"""Called with a sentence about the progress."""

OnOutcome = Callable[[Outcome], None]


@dataclass(kw_only=True)
class Drilled:
    """A run of drills."""

    run: DrillRun
    folder: Path
    """The folder of the run's evidence."""
    page: Path
    ordered: int
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def have_all_held(self) -> bool:
        """Whether every requested drill was run and held."""
        return len(self.outcomes) == self.ordered and held(self.outcomes)


def drill_now(
    settings: Settings,
    drills: Sequence[Drill],
    *,
    orders_per_second: float = ORDERS_PER_SECOND,
    on_step: OnStep = lambda text: None,
    on_outcome: OnOutcome = lambda outcome: None,
) -> Drilled:
    """Drill on a system that is made for it and deleted afterwards; store evidence and record every outcome.

    Of the system of `settings` only the table of drills is changed. StackError when the drill could not be made.
    """
    with _alone(settings.var_dir / DRILLS_FOLDER) as lock:
        started_at = utc_now()
        run = DrillRun(
            run=f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
            code_version=code_version(),
            orders_per_second=orders_per_second,
            started_at=started_at,
        )
        folder = settings.var_dir / DRILLS_FOLDER / run.run
        drilled = Drilled(run=run, folder=folder, page=write_page(folder, run, []), ordered=len(drills))
        for told in _told(settings.var_dir / DRILLS_FOLDER / DRILLED_SYSTEM, folder, drills, orders_per_second, lock):
            if "outcome" in told:
                _keep(settings, drilled, outcome_from_json(told["outcome"]), on_outcome)
            elif "ready" in told:
                on_step(f"the system for it was up after {told['ready']} s")
            elif "failed" in told:
                raise StackError(f"The drill could not be made: {told['failed']}")
        if len(drilled.outcomes) < len(drills):
            raise StackError(f"The drill ended after {len(drilled.outcomes)} of {len(drills)}; see {folder / LOG}.")
    return drilled


def drill_everything(settings: Settings, say: OnStep) -> Path:
    """Run every drill, and return the page with the evidence; the table of drills has the outcomes."""
    return drill_now(
        settings,
        DRILLS,
        on_step=say,
        on_outcome=lambda outcome: say(f"{outcome.system} {outcome.test}: {'; '.join(outcome.problems) or 'held'}"),
    ).page


def _keep(settings: Settings, drilled: Drilled, outcome: Outcome, on_outcome: OnOutcome) -> None:
    evidence = write_evidence(drilled.folder, drilled.run, outcome)
    drilled.outcomes.append(outcome)
    write_page(drilled.folder, drilled.run, drilled.outcomes)
    record(
        settings.control_dsn,
        outcome,
        run=drilled.run.run,
        code_version=drilled.run.code_version,
        evidence=str(evidence),
    )
    on_outcome(outcome)


def _told(
    system: Path, folder: Path, drills: Sequence[Drill], orders_per_second: float, lock: int
) -> Iterator[dict[str, Any]]:
    """Run the drill process and yield its messages; the process has always ended when the iterator ends.

    The drill process inherits the open file `lock`. So if this process is killed, no other drill can start before the
    drill process has ended.
    """
    cells = [f"{drill.copy.name}/{drill.test}" for drill in drills]
    command = [
        sys.executable,
        "-P",
        "-m",
        "stack.upkeep.drill_system",
        "--orders-per-second",
        str(orders_per_second),
        *cells,
    ]
    with (folder / LOG).open("ab") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            pass_fds=(lock,),
            env=drill_environment(os.environ, system),
        )
    try:
        yield from map(json.loads, _lines(child.stdout))
        # The drill process deletes its system before it ends.
        child.wait(timeout=END_PATIENCE_SECONDS)
    finally:
        if child.poll() is None:
            tracking.stop(psutil.Process(child.pid), signals=STOP_SIGNALS)
            child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _lines(stream: IO[str] | None) -> Iterator[str]:
    return iter(()) if stream is None else iter(stream)


def drill_environment(environment: Any, system: Path) -> dict[str, str]:
    """Return the environment of the drill process, without the addresses of any other system's servers.

    Merchants' systems of drills are on loopback.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith(PREFIX)}
    own = {f"{PREFIX}VAR_DIR": str(system), f"{PREFIX}WEBHOOK_OPEN_HOSTS": LOOPBACK}
    return {**kept, **own, "PYTHONPATH": str(ROOT)}


@contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """Hold the lock of drills, because all drills use one system folder. Yield the descriptor of the locked file."""
    folder.mkdir(parents=True, exist_ok=True)
    # The server's account must be able to traverse this folder to the drilled system.
    folder.chmod(0o711)
    with (folder / DRILL_LOCK).open("a+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError("A drill is under way here; wait until it has ended.") from None
        yield file.fileno()
