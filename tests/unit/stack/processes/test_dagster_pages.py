"""Dagster's pages are said to be ready when they are, on a slow machine as well, and keep their address."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from cli.console import ConsoleProgress
from contracts.errors import StackError
from orchestration.unstarted import settings_for_drawing
from stack import files, ports
from stack.processes.dagster_home import PATIENCE_SECONDS, dagster_environment, write_dagster_home
from stack.processes.dagster_pages import Pages
from stack.upkeep import lifecycle

STARTED = 1_000.0
PAGES = Pages(address="http://127.0.0.1:3000", started_at=STARTED)


def answer(
    *before: Mapping[str, Any],
    another: str = "RepositoryLocation",
    status: str = "LOADED",
    heartbeat: float | None = 1_001.0,
    looked: float = 1_002.0,
    tick: str = "SUCCESS",
    sensor: str = "RUNNING",
) -> Any:
    entries = [
        {"name": "tieout", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}},
        {"name": "another", "loadStatus": status, "locationOrLoadError": {"__typename": another}},
    ]
    daemons = [
        {"daemonType": "SENSOR", "required": True, "lastHeartbeatTime": heartbeat},
        {"daemonType": "BACKFILL", "required": False, "lastHeartbeatTime": None},
    ]
    return {
        "workspaceOrError": {"locationEntries": entries},
        "instance": {"daemonHealth": {"allDaemonStatuses": daemons}},
        "sensorOrError": {"sensorState": {"status": sensor, "ticks": [{"timestamp": looked, "status": tick}, *before]}},
    }


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (answer(), ""),
        (answer(status="LOADING"), "code location another is loading"),
        (answer(another="PythonError"), "code location another has not answered yet"),
        (answer(heartbeat=None), "the daemon has not begun with sensor"),
        # What an earlier daemon said, before this start, says nothing of this one.
        (answer(heartbeat=STARTED - 1), "the daemon has not begun with sensor"),
        (answer(looked=STARTED - 1), "what was found so far is being entered"),
        (answer(tick="STARTED"), "what was found so far is being entered"),
        # It looks again, long after the start.
        (answer({"timestamp": 1_001.5, "status": "SKIPPED"}, tick="STARTED"), ""),
        (answer({"timestamp": STARTED - 1, "status": "SKIPPED"}, tick="STARTED"), "what was found so far"),
        # It has looked, in vain; and one that somebody has switched off is not waited for.
        (answer(tick="FAILURE"), ""),
        (answer(looked=STARTED - 1, sensor="STOPPED"), ""),
        ({**answer(), "workspaceOrError": {"locationEntries": []}}, "no code location"),
        ({"workspaceOrError": {}}, "the webserver does not answer yet"),
    ],
)
def test_pages_say_what_they_wait_for(found: Mapping[str, Any], said: str) -> None:
    missing = PAGES.missing(lambda query, variables: found)
    assert missing.startswith(said) and bool(missing) == bool(said)


def test_a_webserver_that_is_not_there_is_waited_for() -> None:
    def nobody(query: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ConnectionRefusedError

    assert "webserver" in PAGES.missing(nobody)


class StoppedError(Exception):
    """Ends a loop that has no end."""


def test_an_address_is_printed_when_it_can_be_used_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = ["code location another is loading"] * 3 + [""]
    said = io.StringIO()
    progress = ConsoleProgress(console=Console(file=said, width=200))
    asked: Iterator[str] = iter(waits)
    monkeypatch.setattr(Pages, "missing", lambda _, ask=None: next(asked))
    monkeypatch.setattr(lifecycle, "PAGES_TIMEOUT_SECONDS", -1.0)

    assert not lifecycle.wait_for_pages(PAGES, progress)

    def mend(values: object, **_: object) -> object:
        if "Dagster: http" in said.getvalue():
            raise StoppedError
        return values

    monkeypatch.setattr(lifecycle, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(lifecycle, "mend", mend)
    with pytest.raises(StoppedError):
        lifecycle._watch(settings_for_drawing(tmp_path), progress, has_traffic=False, pages_port=3000, awaited=PAGES)
    assert list(asked) == [] and said.getvalue().count("Dagster: http://127.0.0.1:3000") == 1
    assert said.getvalue().index("another is loading") < said.getvalue().index("Dagster: http")


def test_the_pages_keep_the_port_of_the_last_time_where_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = settings_for_drawing(tmp_path)
    taken: set[int] = set()
    monkeypatch.setattr(ports, "free_port", lambda port=None: 7_777 if port in taken else port)
    assert lifecycle._pages_port(values) == lifecycle.DAGSTER_PORT
    files.write_private(tmp_path / "dagster" / "port", "4111\n")
    assert lifecycle._pages_port(values) == 4_111
    taken.add(4_111)
    assert lifecycle._pages_port(values) == lifecycle.DAGSTER_PORT
    taken.add(lifecycle.DAGSTER_PORT)
    assert lifecycle._pages_port(values) == 7_777


def test_workers_are_stopped_before_ports_are_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(lifecycle, "stop_workers", lambda folder: done.append("stop"))

    def free_port(preferred: int) -> int:
        done.append("port")
        return preferred

    monkeypatch.setattr(ports, "free_port", free_port)
    monkeypatch.setattr(lifecycle, "start_workers", lambda *_, **__: done.append("start"))
    with lifecycle.workers(settings_for_drawing(tmp_path)) as pages:
        assert pages is not None and pages.address.endswith(":3000")
    assert done == ["stop", "port", "start", "stop"]


def test_a_slow_code_server_costs_no_run(tmp_path: Path) -> None:
    from dagster._core.instance.config import dagster_instance_config
    from dagster._grpc.utils import default_grpc_timeout

    values = replace(settings_for_drawing(tmp_path), var_dir=tmp_path)
    home = write_dagster_home(values)
    known, _ = dagster_instance_config(str(home))
    assert known == {**known, **yaml.safe_load((home / "dagster.yaml").read_text())}
    # A run that could not be launched, or was lost, is tried again; one that failed by itself is not.
    assert known["run_queue"]["max_user_code_failure_retries"] > 0 < known["run_retries"]["max_retries"]
    assert not known["run_retries"]["retry_on_asset_or_op_failure"]
    assert known["run_monitoring"]["start_timeout_seconds"] > PATIENCE_SECONDS > default_grpc_timeout()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_GRPC_TIMEOUT_SECONDS", dagster_environment(values)["DAGSTER_GRPC_TIMEOUT_SECONDS"])
        assert default_grpc_timeout() == PATIENCE_SECONDS


def test_code_servers_are_told_to_end_and_one_that_cannot_be_is_said() -> None:
    told: list[str] = []

    def ask(query: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        told.append(variables["location"])
        is_known = variables["location"] == "tieout"
        kind = "ShutdownRepositoryLocationSuccess" if is_known else "RepositoryLocationNotFound"
        return {"shutdownRepositoryLocation": {"__typename": kind}}

    with pytest.raises(StackError, match="warehouse cannot be told"):
        PAGES.reload(["tieout", "warehouse"], ask)
    assert told == ["tieout", "warehouse"]
