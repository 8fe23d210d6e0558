"""supervisord's configuration: what it says survives odd characters, and supervisord itself accepts it."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from contracts.waiting import wait_until
from stack.ports import free_port
from stack.processes.supervision import Program, Supervisor, render_configuration
from stack.settings import ROOT

ODD = Path("/tmp/odd % folder; with spaces")


TALKATIVE = """
import os, time
with open({started!r}, "a") as file:
    print(os.getpid(), file=file)
while True:
    print("x" * 9_000)
    time.sleep(0.01)
"""


def _render(*programs: Program) -> configparser.RawConfigParser:
    text = render_configuration(
        programs, folder=ODD / "supervisor", logs=ODD / "logs", directory=ODD, port=4711, password="pa%ss"
    )
    # As supervisord reads it: a semicolon after a space begins a comment.
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",), strict=True)
    parser.read_string(text)
    return parser


def test_workers_restart_and_their_groups_end_with_them() -> None:
    section = _render(Program(name="relay-pod1", command=["python", "-m", "x"]))["program:relay-pod1"]
    assert section["autorestart"] == "true"
    assert section["stopasgroup"] == section["killasgroup"] == "true"
    assert section["stdout_logfile_maxbytes"] == "5MB"


def test_all_workers_are_stopped_at_once() -> None:
    programs = [Program(name=name, command=["x"]) for name in ("relay-pod1", "lake-pod1")]
    assert _render(*programs)["group:workers"]["programs"] == "relay-pod1,lake-pod1"


def test_odd_characters_in_commands_and_values_survive() -> None:
    command = ["/opt/my python/bin/python", "-c", "print('100% $HOME')"]
    section = _render(Program(name="odd", command=command, environment={"A": "50%"}))["program:odd"]
    assert shlex.split(section["command"].replace("%%", "%")) == command
    assert section["environment"] == 'A="50%%"'


def test_the_control_port_is_on_loopback_with_a_password() -> None:
    section = _render()["inet_http_server"]
    assert section["port"] == "127.0.0.1:4711"
    assert section["password"] == "pa%%ss"


def test_it_and_its_workers_outlive_a_full_disk(tmp_path: Path) -> None:
    full, started = Path("/dev/full"), tmp_path / "started"
    if not full.exists():
        pytest.skip("this system has no /dev/full, which refuses every write as a full disk does")
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("supervisord", "talkative"):
        (logs / f"{name}.log").symlink_to(full)
    worker = tmp_path / "worker.py"
    worker.write_text(TALKATIVE.format(started=str(started)))
    program = Program(name="talkative", command=[sys.executable, "-u", str(worker)])
    configuration = tmp_path / "supervisord.conf"
    configuration.write_text(
        render_configuration(
            [program], folder=tmp_path, logs=logs, directory=tmp_path, port=free_port(), password="secret"
        )
    )
    command = [sys.executable, "-P", "-m", "stack.processes.supervisord", "-n", "-s", "-c", str(configuration)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        full.open("wb") as nowhere,
        subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment) as child,
    ):
        try:
            for kills in range(3):
                until_started(started, kills + 1)
                assert child.poll() is None
                os.kill(pids(started)[-1], signal.SIGKILL)
            until_started(started, 4)
        finally:
            child.terminate()
    assert not psutil.pid_exists(pids(started)[-1]), "it ends its workers as ever"


def until_started(file: Path, times: int) -> None:
    wait_until(lambda: len(pids(file)) >= times, timeout_seconds=30, failure=lambda: f"not started {times} times")


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_worker_that_was_killed_stays_away_until_it_is_started(tmp_path: Path) -> None:
    """Also where the supervisor has just seen it end, and is about to start it again."""
    supervisor = Supervisor(var_dir=tmp_path)
    idle = Program(name="idle", command=[sys.executable, "-c", "import time; time.sleep(600)"])
    supervisor.start([idle], directory=ROOT)
    try:
        for is_seen in (False, True) * 3:
            supervisor.start_worker("idle")
            (state,) = supervisor.states()
            assert state.process_id is not None
            if is_seen:
                os.kill(state.process_id, signal.SIGKILL)
                wait_until(
                    lambda: supervisor.states()[0].process_id is None, timeout_seconds=10, failure=lambda: "not seen"
                )
            supervisor.kill_worker("idle")
            assert [(one.state, one.process_id) for one in supervisor.states()] == [("stopped", None)]
    finally:
        supervisor.stop()


def test_nothing_answers_where_no_supervisor_runs(tmp_path: Path) -> None:
    supervisor = Supervisor(var_dir=tmp_path)
    assert supervisor.states() == []
    assert supervisor.stop() is False
