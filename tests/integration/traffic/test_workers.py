from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contracts.errors import StackError
from contracts.settings import Settings
from contracts.waiting import comes_true
from oltp.commands.execute import CommandPod
from traffic.workers import Workers

ROOT = Path(__file__).resolve().parents[3]
FEEDER = """
import os, pickle, sys
from tests.integration.traffic.test_workers import process_id
from traffic.workers import Workers

if __name__ == "__main__":
    settings = pickle.loads(bytes.fromhex(sys.argv[1]))
    with Workers(settings, 1) as workers:
        for number in workers.run(process_id, [("pod1", 1)]):
            print(number, flush=True)
        sys.stdin.read()
"""


def double(pod: CommandPod, number: int) -> tuple[str, int]:
    return pod.pod, 2 * number


def refuse(pod: CommandPod, number: int) -> int:
    raise ValueError(f"{number} is refused")


def die(pod: CommandPod, number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def process_id(pod: CommandPod, number: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("processes", [0, 2])
def test_every_item_is_worked_on_once_in_its_pod(books: Settings, processes: int) -> None:
    items = [("pod1" if number % 2 else "pod2", number) for number in range(25)]
    with Workers(books, processes) as workers:
        found = sorted(workers.run(double, items), key=lambda result: result[1])
    assert found == [(pod, 2 * number) for pod, number in items]


def test_items_are_read_only_as_there_is_room(books: Settings) -> None:
    read = 0

    def items() -> Iterator[tuple[str, int]]:
        nonlocal read
        for number in range(1_000):
            read += 1
            yield "pod1", number

    with Workers(books, 1) as workers:
        next(iter(workers.run(double, items())))
    assert read < 50


def test_an_error_of_the_work_and_a_killed_process_come_up_here(books: Settings) -> None:
    with Workers(books, 1) as workers, pytest.raises(ValueError, match="1 is refused"):
        list(workers.run(refuse, [("pod1", 1)]))
    with Workers(books, 1) as workers, pytest.raises(StackError, match="killed"):
        list(workers.run(die, [("pod1", 1)]))


def test_workers_end_when_their_parent_is_killed(books: Settings, tmp_path: Path) -> None:
    import pickle

    script = tmp_path / "feeder.py"
    script.write_text(FEEDER)
    feeder = subprocess.Popen(
        [sys.executable, str(script), pickle.dumps(books).hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with feeder:
        assert feeder.stdout is not None
        worker = int(feeder.stdout.readline())
        feeder.kill()
        feeder.wait()

    def has_ended() -> bool:
        return not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE

    assert comes_true(has_ended, seconds=30), "the worker outlives its parent"
