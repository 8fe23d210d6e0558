"""What does not go on says why, and is believed as long as it is still the one that said it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.processes import stopped
from stack.processes.stopped import Refusal
from stack.processes.supervision import _state
from stack.settings import ROOT

SENTENCE = "The log of pod pod1 ends at cut 9, but the database knows 0 cuts: open a new epoch."
SAID = Refusal(process_id=7, sentence=SENTENCE)


@pytest.mark.parametrize(
    ("process_id", "seconds", "restarts", "is_believed"),
    [
        (7, 3.0, 0, True),
        (7, 300.0, 0, True),
        (8, 3.0, 1, True),
        (0, None, 1, True),
        (8, 300.0, 1, False),
        # The first process of a new start: the one that refused belonged to the last one.
        (8, 3.0, 0, False),
    ],
)
def test_a_refusal_holds_until_the_worker_goes_on(
    process_id: int, seconds: float | None, restarts: int, is_believed: bool
) -> None:
    info = {"name": "relay-pod1", "statename": "RUNNING", "description": "", "pid": process_id, "start": 100}
    info["now"] = 100 + (seconds or 0)
    assert _state(info, restarts, SAID).refusal == (SENTENCE if is_believed else "")
    assert _state(info, restarts, None).refusal == ""


def test_why_servers_cannot_be_started_is_said_by_who_keeps_them_up_and_taken_back(tmp_path: Path) -> None:
    assert stopped.of_servers(tmp_path) == ""
    stopped.take_back(tmp_path, stopped.SERVERS)
    stopped.note(tmp_path, stopped.SERVERS, SENTENCE)
    assert stopped.of_servers(tmp_path) == SENTENCE
    stopped.take_back(tmp_path, stopped.SERVERS)
    assert stopped.of_servers(tmp_path) == ""


def test_what_an_ended_process_said_of_servers_is_no_news(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from stack.processes import stopped; "
    program += "stopped.note(Path(sys.argv[1]), stopped.SERVERS, 'gone')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment)
    assert stopped.refusals(tmp_path)[stopped.SERVERS].sentence == "gone"
    assert stopped.of_servers(tmp_path) == ""


def test_a_worker_that_refuses_says_why(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIEOUT_")}
    environment |= {"TIEOUT_VAR_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), "SUPERVISOR_PROCESS_NAME": "relay-pod1"}
    command = [sys.executable, "-P", "-m", "stack.upkeep.worker", "relay", "--pod", "pod1"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as worker:
        while not (said := stopped.refusals(tmp_path)) and worker.poll() is None:
            pass
        worker.terminate()
    assert said["relay-pod1"].process_id == worker.pid
    assert "tieout up" in said["relay-pod1"].sentence


def test_a_file_that_was_cut_off_says_nothing(tmp_path: Path) -> None:
    stopped.note(tmp_path, "relay-pod1", SENTENCE)
    file = tmp_path / stopped.FOLDER / "relay-pod1.json"
    file.write_text(file.read_text()[:20])
    assert stopped.refusals(tmp_path) == {}
