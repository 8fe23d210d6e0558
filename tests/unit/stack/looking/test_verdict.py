"""The verdict of a status: what is down, what is an alarm, what is neither; and how often things were restarted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stack.looking.copies import ProjectionStatus
from stack.looking.servers import LOG_IS_FULL, ServerSeen, Store, by_server
from stack.looking.status import PodStatus, Status
from stack.looking.verdict import NOTHING_RUNS, WELL, WRONG, verdict_of
from stack.processes import restarts
from stack.processes.supervision import ProgramState
from stack.scrubbing import hide_password


def copy(**changes: object) -> ProjectionStatus:
    values = {"name": "account_view", "pod": "pod1", "state": "current", "lag_seconds": 0.0, "parked": 0, **changes}
    return ProjectionStatus(**values)  # type: ignore[arg-type]


def worker(state: str = "running") -> ProgramState:
    return ProgramState(name="relay-pod1", state=state, detail="", process_id=1)


def server(state: str = "running", reason: str = "") -> ServerSeen:
    holds, address = ("log",), "127.0.0.1:6379"
    return ServerSeen(name="valkey", kind="Valkey", address=address, holds=holds, state=state, reason=reason)


RUNNING = Status(
    state="up",
    resident=7,
    dagster_url=None,
    pods=[PodStatus(pod="pod1", dsn="")],
    servers=[server()],
    projections=[copy()],
    workers=[worker()],
)


@pytest.mark.parametrize(
    ("seen", "code", "sentence"),
    [
        (RUNNING, WELL, "All is well: 1 server and 1 worker run, 1 copy keeps up."),
        (
            replace(RUNNING, servers=[server("down", "connection refused")], projections=[copy(state="unreachable")]),
            WRONG,
            "Something is down: Valkey valkey (log) at 127.0.0.1:6379 does not answer: connection refused.",
        ),
        (
            replace(RUNNING, servers=[server("full", LOG_IS_FULL)]),
            WRONG,
            "Something is down: Valkey valkey (log) at 127.0.0.1:6379: its memory is full: it takes no entries.",
        ),
        (replace(RUNNING, workers=[worker("backoff")]), WRONG, "Something is down: worker relay-pod1 is backoff."),
        (
            replace(RUNNING, workers=[replace(worker(), restarts=4, seconds=25.0)]),
            WRONG,
            "Something is down: worker relay-pod1 ends again and again, 4 times so far.",
        ),
        (replace(RUNNING, workers=[replace(worker(), restarts=4, seconds=45.0)]), WELL, "All is well"),
        (
            replace(RUNNING, workers=[worker(), replace(worker(), name="witness")], uncompared="2 sightings wait"),
            WRONG,
            "All runs, but look: 2 sightings wait: `tieout coverage`.",
        ),
        (
            replace(RUNNING, workers=[replace(worker(), refusal="The log ends at cut 9: open a new epoch.")]),
            WRONG,
            "Something is down: worker relay-pod1 does not go on: The log ends at cut 9: open a new epoch.",
        ),
        (
            replace(RUNNING, servers=[server("down", "connection refused")], servers_refusal="Its data are gone."),
            WRONG,
            "Something is down: Valkey valkey (log) at 127.0.0.1:6379 does not answer: connection refused; what has "
            "ended cannot be started again: Its data are gone.",
        ),
        (
            replace(RUNNING, dagster_url="http://127.0.0.1:3000", pages_missing="location tieout is in error"),
            WRONG,
            "All runs, but look: Dagster's pages are not ready: location tieout is in error.",
        ),
        (replace(RUNNING, workers=[worker("starting")]), WRONG, "All runs, but look: 1 worker is starting."),
        (
            replace(RUNNING, workers=[replace(worker("starting"), restarts=1)]),
            WRONG,
            "Something is down: worker relay-pod1 is starting.",
        ),
        (replace(RUNNING, workers=[]), WRONG, "Something is down: no worker runs: their supervisor does not answer."),
        (
            replace(RUNNING, resident=None),
            WRONG,
            "Something is down: nothing keeps servers and workers running: start `tieout up`.",
        ),
        (
            replace(RUNNING, resident=None, is_external=True),
            WELL,
            "All is well: 1 server and 1 worker run, 1 copy keeps up.",
        ),
        (
            replace(RUNNING, projections=[copy(state="unreachable", error="no such table")]),
            WRONG,
            "Something is down: account view of pod1 could not be looked at: no such table.",
        ),
        # Late is not wrong; beyond what may be called late, people are told.
        (replace(RUNNING, projections=[copy(state="behind", lag_seconds=59.0)]), WELL, "All is well"),
        (
            replace(RUNNING, projections=[copy(state="behind", lag_seconds=61.0)]),
            WRONG,
            "All runs, but look: account view of pod1 is 61 s behind.",
        ),
        (
            replace(RUNNING, breaks={"open": 1, "repairing": 0, "escalated": 2, "accepted": 5}),
            WRONG,
            "All runs, but look: 2 breaks need a person; 1 break is being repaired.",
        ),
        (
            replace(RUNNING, near_limits=["disk of /: 9 of 10 MB (90%). Make room."]),
            WRONG,
            "All runs, but look: near its limit: disk of /: 9 of 10 MB (90%). Make room.",
        ),
        (replace(RUNNING, state="down"), NOTHING_RUNS, "Nothing runs here: `tieout up` starts it."),
    ],
)
def test_the_verdict_says_what_is_wrong_first(seen: Status, code: int, sentence: str) -> None:
    found = verdict_of(seen)
    assert (found.exit_code, found.sentence[: len(sentence)]) == (code, sentence)
    assert seen.as_json()["verdict"]["exit_code"] == code


def test_stores_of_one_address_are_one_server() -> None:
    def store(name: str, address: str) -> Store:
        return Store(name=name, kind="PostgreSQL", address=address, when_down=f"Without {name}.", ask=str)

    stores = [store("pod1", "a:1"), store("control", "a:2"), store("views", "a:2")]
    pod, control = by_server(stores, ["", "", "does not exist"])
    assert (pod.state, pod.holds, control.state) == ("running", ("pod1",), "partly")
    assert control.holds == ("control", "views") and control.when_down == ("Without views.",)
    assert control.sentence == "PostgreSQL control (control, views) at a:2 answers, but not for views: does not exist"
    assert [one.state for one in by_server(stores, ["x", "x", "x"])] == ["down", "down"]


def test_restarts_are_counted_from_when_tieout_was_started(tmp_path: Path) -> None:
    log = tmp_path / "supervisord.log"
    log.write_text("2026-01-01 INFO spawned: 'relay-pod1' with pid 1\n")
    restarts.begin_counting(tmp_path, log)
    assert restarts.of_workers(tmp_path, log) == {}
    with log.open("a") as more:
        more.write("".join(f"2026-01-02 00:00:01,123 INFO spawned: '{name}' with pid 9\n" for name in "aab"))
    restarts.note_servers(tmp_path, ["pod1"])
    restarts.note_servers(tmp_path, ["pod1", "valkey"])
    assert restarts.of_workers(tmp_path, log) == {"a": 1, "b": 0}
    assert restarts.of_servers(tmp_path) == {"pod1": 2, "valkey": 1}
    restarts.begin_counting(tmp_path, log)
    assert restarts.of_servers(tmp_path) == {}


def test_an_address_without_its_password_still_says_who_and_where() -> None:
    shown = hide_password("postgresql://reader:secret@127.0.0.1:5801/tieout")
    assert shown == "postgresql://reader@127.0.0.1:5801/tieout"
