"""Work in a process of its own: what it says, returns and raises comes through, and a killed one is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, cast

import pytest

from contracts.errors import InputError, StackError
from contracts.settings import Settings
from stack.processes.apart import Say, run_apart

SETTINGS = cast("Settings", {"greeting": "from here"})


def telling(settings: Settings, say: Say) -> tuple[str, int]:
    say("outbox of pod1", 3)
    say("lake of pod1", 2)
    return cast("Mapping[str, str]", settings)["greeting"], os.getpid()


def failing(settings: Settings, say: Say) -> None:
    raise InputError("What was wrong, and where.")


def starting_another(settings: Settings, say: Say) -> bool:
    with ProcessPoolExecutor(max_workers=1) as pool:
        return pool.submit(os.getppid).result() == os.getpid()


class _UnsendableError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("no")


def failing_unsendably(settings: Settings, say: Say) -> None:
    raise _UnsendableError("a sentence")


def ending(settings: Settings, say: Say) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_it_says_and_returns_comes_from_another_process() -> None:
    said: list[tuple[str, int]] = []
    greeting, process_id = run_apart(telling, SETTINGS, lambda what, events: said.append((what, events)))
    assert said == [("outbox of pod1", 3), ("lake of pod1", 2)]
    assert greeting == "from here" and process_id != os.getpid()


def test_it_may_start_processes() -> None:
    assert run_apart(starting_another, SETTINGS, lambda: None)


@pytest.mark.parametrize(
    ("work", "error", "sentence"),
    [
        (failing, InputError, "What was wrong"),
        (failing_unsendably, StackError, "a sentence"),
        (ending, StackError, "was killed; run the command again"),
    ],
)
def test_what_it_raises_comes_through(work: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        run_apart(work, SETTINGS, lambda what, events: None)
