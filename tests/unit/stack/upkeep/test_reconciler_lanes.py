"""The lanes of the reconciler: what a witness saw is compared while a long round goes on, which gives way to it."""

from __future__ import annotations

import threading

import pytest

from stack.upkeep import reconciler_lanes as module
from stack.upkeep.reconciler import RoundKind
from stack.upkeep.reconciler_lanes import Lane

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)


def test_a_round_waits_at_its_next_step_while_the_other_lane_compares() -> None:
    stop, is_seen, may_end = threading.Event(), threading.Event(), threading.Event()

    def look() -> RoundKind | None:
        if is_seen.is_set():
            return None
        is_seen.set()
        may_end.wait(PATIENCE)
        return RoundKind.SEEN

    urgent = Lane(step=look, stop=stop, clean=str)
    thread = threading.Thread(target=urgent.repeat)
    thread.start()
    assert is_seen.wait(PATIENCE)
    assert not urgent.is_at_rest.is_set()
    waiting = threading.Thread(target=module._give_way, args=(urgent.is_at_rest,))
    waiting.start()
    assert waiting.is_alive()
    may_end.set()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    stop.set()
    thread.join(PATIENCE)
    assert urgent.has_run.is_set()


def test_an_error_is_said_once_and_the_lane_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> RoundKind | None:
        raise OSError("no server")

    lane = Lane(step=fail, stop=threading.Event(), clean=lambda text: text.replace("server", "***"))
    for _ in range(3):
        lane.take()
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["OSError: no ***"]
    assert lane.is_at_rest.is_set() and not lane.has_run.is_set()
