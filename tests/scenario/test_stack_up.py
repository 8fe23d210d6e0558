"""The whole system as a user runs it: up, killed workers, down; killed itself; one pass from nothing that ties."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from contracts.ownership import CART
from contracts.waiting import comes_true
from stack.composition import session
from stack.looking.status import read_status
from stack.processes import tracking
from stack.servers.embedded import embedded_servers
from stack.settings import ROOT, load_settings

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def folder(session_folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty var folder of its own in which nothing runs afterwards."""
    made = session_folder / request.node.name
    yield made
    session.stop_everything(made)
    embedded_servers(made).wipe()


@pytest.fixture
def stack_folder(started_stack: Path) -> Iterator[Path]:
    """The var folder of a stack that was started before; nothing runs in it afterwards."""
    yield started_stack
    session.stop_everything(started_stack)


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIEOUT_")}
    return {**kept, "TIEOUT_VAR_DIR": str(folder), "PYTHONPATH": str(ROOT)}


def _tieout(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "cli", *arguments]
    return subprocess.run(command, env=_environment(folder), capture_output=True, text=True, timeout=300)


def _status(folder: Path) -> dict[str, Any]:
    """Look as the command does, in this process: it is asked again and again."""
    return read_status(load_settings(_environment(folder))).as_json()


def _until(is_true: Callable[[], bool], what: str, seconds: float = 90) -> None:
    # What is asked is a command each time: a second of CPU that what is waited for could have.
    assert comes_true(is_true, seconds=seconds, pause_seconds_max=2), f"{what} did not happen in {seconds} s"


def _pids(folder: Path) -> dict[str, int]:
    return {worker["name"]: worker["process_id"] for worker in _status(folder)["workers"]}


@pytest.mark.in_turn("system", seconds=77)
def test_up_replaces_killed_workers_and_down_leaves_nothing(stack_folder: Path) -> None:
    folder = stack_folder
    started = _tieout(folder, "up", "--detach", "--no-ui", "--no-traffic")
    assert started.returncode == 0, started.stderr
    for again in (["up"], ["up", "--detach"]):
        refused = _tieout(folder, *again)
        assert refused.returncode == 1 and "already running" in refused.stderr

    before = _pids(folder)
    assert {"relay-pod1", "relay-pod2", "lake-pod1", "account-view-pod2", "fulfillment-view-pod1"} <= set(before)
    for name in ("relay-pod1", "lake-pod2"):
        os.kill(before[name], signal.SIGKILL)
    _until(lambda: not {before["relay-pod1"], before["lake-pod2"]} & set(_pids(folder).values()), "a restart")
    _until(lambda: _status(folder)["pods"][0]["held_by"] is not None, "taking the relay lock again")

    supervisor = tracking.read_process_id(folder / "supervisor" / "supervisord.pid")
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    _until(lambda: len(_pids(folder)) == len(before), "starting all workers under a new supervisor")
    _until(lambda: _status(folder)["pods"][0]["held_by"] is not None, "taking the relay lock after that")

    assert _tieout(folder, "traffic", "--orders", "20", "--json").returncode == 0
    drained = _tieout(folder, "drain", "--json")
    assert drained.returncode == 0, drained.stderr
    status = json.loads(_tieout(folder, "status", "--json").stdout)
    assert status["state"] == "up"
    assert [pod["unpublished_events"] for pod in status["pods"]] == [0, 0]
    assert {copy["state"] for copy in status["projections"]} == {"current"}
    assert status["verdict"]["down"] == [] and status["verdict"]["exit_code"] in (0, 1)
    assert {server["state"] for server in status["servers"]} == {"running"}
    assert len(status["servers"]) == len(embedded_servers(folder).all)
    restarts = {worker["name"]: worker["restarts"] for worker in status["workers"]}
    assert restarts["relay-pod1"] >= 1 and "upkeep" in restarts
    assert all(pod["dsn"].startswith("postgresql://tieout_reader@127.0.0.1:") for pod in status["pods"])
    with_passwords = json.loads(_tieout(folder, "status", "--json", "--with-passwords").stdout)
    assert all("postgresql://tieout_reader:" in pod["dsn"] for pod in with_passwords["pods"])
    # A cart has no cuts.
    assert all(copy["applied_cut"] > 0 for copy in status["projections"] if copy["name"] != CART.name)
    # The witnesses looked before the first worker wrote, and killed workers break no rule.
    assert json.loads(_tieout(folder, "witnesses", "--json").stdout)["sightings"] == []

    stopped = _tieout(folder, "down", "--json")
    assert stopped.returncode == 0
    # The process that keeps everything up stops its servers and workers itself.
    assert json.loads(stopped.stdout)["stopped"][0].startswith("tieout (process ")
    assert tracking.marked(folder) == []
    assert embedded_servers(folder).running() == []
    assert _status(folder)["state"] == "down"


@pytest.mark.in_turn("system", seconds=14)
def test_down_cleans_up_after_a_resident_that_was_killed(stack_folder: Path) -> None:
    folder = stack_folder
    assert _tieout(folder, "up", "--detach", "--no-ui", "--no-traffic").returncode == 0
    resident = session.resident(folder)
    assert resident is not None
    resident.kill()
    _until(lambda: not psutil.pid_exists(resident.pid) or resident.status() == psutil.STATUS_ZOMBIE, "the kill")
    assert tracking.marked(folder) != []
    assert _tieout(folder, "down").returncode == 0
    assert tracking.marked(folder) == []
    assert embedded_servers(folder).running() == []


@pytest.mark.parametrize("passes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_one_pass_from_nothing_ties_and_a_second_continues(folder: Path, passes: int) -> None:
    command = [sys.executable, "-P", "-m", "cli.run", "--once", "--orders", "25"]
    orders = []
    for _ in range(passes):
        done = subprocess.run(command, env=_environment(folder), capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Everything ties" in done.stdout
        orders.append(sum(_order_counts(done.stdout)))
    assert orders == [25, 50][:passes]
    assert tracking.marked(folder) == []
    assert embedded_servers(folder).running() == []


def _order_counts(output: str) -> list[int]:
    rows = [line.split("│") for line in output.splitlines() if "Order count" in line]
    return [int(row[4].replace(",", "")) for row in rows]
