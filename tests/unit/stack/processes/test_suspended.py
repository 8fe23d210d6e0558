"""A worker whose process is suspended is killed and started again, but only after nobody has resumed it for long."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cli.status_view import _detail
from contracts.waiting import wait_until
from stack.processes import restarts
from stack.processes.supervision import Program, ProgramState, Supervisor
from stack.processes.suspended import LOOK_SECONDS, SUSPENDED_SECONDS_MAX, SuspendedWatch
from stack.settings import ROOT

WAITING = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor with two workers, each with a process of its own below it."""
    started = Supervisor(var_dir=tmp_path)
    restarts.begin_counting(started.folder, started.log)
    command = [sys.executable, "-c", WAITING]
    started.start([Program(name=name, command=command) for name in ("one", "two")], directory=ROOT)
    until_running(started)
    yield started
    started.stop()


def until_running(supervisor: Supervisor, *not_these: int) -> dict[str, ProgramState]:
    def states() -> dict[str, ProgramState]:
        return {state.name: state for state in supervisor.states()}

    def is_running() -> bool:
        found = states().values()
        return bool(found) and all(one.state == "running" and one.process_id not in not_these for one in found)

    wait_until(is_running, timeout_seconds=30, failure=lambda: f"not every worker runs: {states()}")
    return states()


def test_it_is_killed_with_what_it_has_started_after_nobody_resumed_it(supervisor: Supervisor) -> None:
    now = 0.0
    watch = SuspendedWatch(supervisor=supervisor, clock=lambda: now)
    before = {name: state.process_id or 0 for name, state in until_running(supervisor).items()}
    wait_until(lambda: bool(psutil.Process(before["one"]).children()), timeout_seconds=30, failure=lambda: "no child")
    (child,) = psutil.Process(before["one"]).children()

    os.kill(before["one"], signal.SIGSTOP)
    os.kill(before["two"], signal.SIGSTOP)
    assert watch.look_if_due() == []
    now = SUSPENDED_SECONDS_MAX - LOOK_SECONDS
    os.kill(before["two"], signal.SIGCONT)
    wait_until(
        lambda: psutil.Process(before["two"]).status() != psutil.STATUS_STOPPED,
        timeout_seconds=30,
        failure=lambda: "two was not resumed",
    )
    assert watch.look_if_due() == []
    now += LOOK_SECONDS / 2
    os.kill(before["two"], signal.SIGSTOP)
    assert watch.look_if_due() == [], "it looked just before"
    now += LOOK_SECONDS / 2
    assert watch.look_if_due() == ["one"], "the other one was resumed meanwhile"

    os.kill(before["two"], signal.SIGCONT)
    after = until_running(supervisor, before["one"])
    assert {name: state.suspended for name, state in after.items()} == {"one": 1, "two": 0}
    assert after["one"].restarts == 1 and after["two"].process_id == before["two"]
    assert not child.is_running()
    now += SUSPENDED_SECONDS_MAX
    assert watch.look_if_due() == []


def test_the_status_says_it() -> None:
    worker = ProgramState(name="one", state="running", detail="pid 7, uptime 0:00:09", process_id=7)
    assert _detail(worker) == "pid 7, uptime 0:00:09"
    assert _detail(replace(worker, suspended=2)).endswith("; killed 2 times, because it was suspended")


def test_where_no_supervisor_runs_nothing_is_suspended(tmp_path: Path) -> None:
    assert SuspendedWatch(supervisor=Supervisor(var_dir=tmp_path)).look_once() == []
