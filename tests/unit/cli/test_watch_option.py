"""`tieout status --watch` in a pipe: a line per look; Ctrl-C ends it after a whole look, with its exit code."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from cli.commands import status as command
from stack.looking.status import Status
from tests.unit.stack.looking.test_verdict import RUNNING, worker


def test_watching_ends_by_an_interrupt_with_the_verdict_of_the_last_look(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "WATCH_SECONDS", 0.01)
    looks: list[Status] = []

    def look() -> Status:
        looks.append(RUNNING)
        if len(looks) < 3:
            return RUNNING
        os.kill(os.getpid(), signal.SIGINT)
        return replace(RUNNING, workers=[worker("fatal")])

    assert command._watch(look, is_short=True, as_json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].endswith("UTC: All is well: 1 server and 1 worker run, 1 copy keeps up.")
    assert lines[2].endswith("Something is down: worker relay-pod1 is fatal.")
