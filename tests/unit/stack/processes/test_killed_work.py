"""Work in processes of its own that is killed or interrupted: the user reads our sentence, and nothing else is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from stack.settings import ROOT
from traffic import workers

PROGRAM = [sys.executable, "-m", "tests.unit.stack.processes.killed_work"]
KILLED = "The process that did the work was killed; run the command again.\n"


def run(what: str, *signals: signal.Signals) -> tuple[int, str]:
    """Run the program; once its workers start send its whole group these, as a terminal does. Return exit code, errors.

    What it prints comes to an end only when every one of its processes has ended.
    """
    program = subprocess.Popen(
        [*PROGRAM, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert program.stdout is not None and program.stdout.readline() == "begun\n"
    for number in signals:
        os.killpg(program.pid, number)
    _, errors = program.communicate(timeout=60)
    return program.returncode, errors


def test_of_work_that_is_killed_with_its_workers_only_our_sentence_is_read() -> None:
    assert run("killed") == (1, KILLED)


def test_workers_see_no_interrupt_not_even_while_they_start() -> None:
    assert run("starting", signal.SIGINT) == (130, "")


def test_a_worker_whose_parent_ended_before_it_began_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    workers._end_without_parent(os.getppid() + 1)
    assert ended == [1]


def test_an_interrupt_while_the_command_is_imported_ends_it_without_a_traceback() -> None:
    program = """
import os, runpy, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
runpy.run_module("cli", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
