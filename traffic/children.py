"""Starting Python child processes, so that only our own messages appear when one of them ends.

Belongs here: what every such process needs from its first moment. Does not belong here: what they do, and ending them
(`traffic/workers.py`, `stack/processes/apart.py`).
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext

EXPECTED = "ignore:resource_tracker:UserWarning"
"""A killed process leaves its semaphores. Python's resource tracker removes them; this filter silences its warnings."""


def spawn_context() -> SpawnContext:
    """Return the context that spawns processes; start the resource tracker too, with its leak warnings silenced.

    We spawn and do not fork, because a fork would share this process's connections. Errors of the tracker are still
    shown.
    """
    sys.warnoptions.append(EXPECTED)  # the tracker process is started with these options
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(EXPECTED)
    return multiprocessing.get_context("spawn")


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Block SIGINT (Ctrl-C) in this block; processes started in it never get it, not even while they import.

    Only this process handles Ctrl-C, when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
