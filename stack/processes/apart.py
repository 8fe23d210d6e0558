"""Runs one function in a child process, so that the operating system gets its memory back when it ends.

Allocators keep much of the memory that was freed, so the next step would need its memory on top of it. Belongs here:
starting the process, its progress messages, its result or its error. Does not belong here: the work; many commands at
once (`traffic/workers.py`).
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from contracts.errors import StackError
from contracts.settings import Settings
from derived.lifeline import end_with_parent
from traffic.children import interrupts_held_back, spawn_context

Result = TypeVar("Result")
Say = Callable[..., None]
"""Reports progress: what was done, and numbers. The arguments are those of the caller's function."""

STOP_SECONDS = 10


def run_apart(work: Callable[[Settings, Say], Result], settings: Settings, on_said: Say) -> Result:
    """Return what `work` returns for these settings, or raise what it raises. `work` must be picklable.

    Raises StackError when the child process was killed. The child ends when this process ends, even by SIGKILL.
    """
    context = spawn_context()
    ours, theirs = context.Pipe(duplex=False)
    # Not a daemon process, because those must not start processes. We end it below; if we are killed, end_with_parent
    # ends it.
    child = context.Process(target=_run, args=(theirs, os.getpid(), work, settings))
    with interrupts_held_back():
        child.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            if kind == "said":
                on_said(*value)
            elif kind == "failed":
                raise value
            else:
                child.join(STOP_SECONDS)
                return value  # type: ignore[no-any-return]
    except EOFError:
        raise StackError("The process that did the work was killed; run the command again.") from None
    finally:
        ours.close()
        if child.is_alive():
            child.terminate()
            child.join(STOP_SECONDS)


def _run(pipe: Connection, parent_id: int, work: Callable[[Settings, Say], Any], settings: Settings) -> None:
    end_with_parent(parent_id)
    turn = threading.Lock()

    def send(kind: str, value: object) -> None:
        # The work may have several threads, and only one thread at a time may write to a pipe.
        with turn:
            pipe.send((kind, value))

    with suppress(BrokenPipeError):
        try:
            send("done", work(settings, lambda *said: send("said", said)))
        except Exception as error:
            send("failed", _sendable(error))


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return StackError(str(error))
    return error
