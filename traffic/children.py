"""Starting Python processes that work for this one, so that a user reads our own sentences only when one of them ends.

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
"""A process that was killed leaves its semaphores, and Python's tracker, which removes them, would warn of each."""


def spawn_context() -> SpawnContext:
    """Return what starts processes; with it runs the tracker that removes what killed ones leave, without a word.

    Spawned, not forked: a fork would share this process's connections. Errors of the tracker are shown all the same.
    """
    sys.warnoptions.append(EXPECTED)  # the tracker, a process of its own, is started with them
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(EXPECTED)
    return multiprocessing.get_context("spawn")


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Start processes inside: they never see Ctrl-C, which is the affair of this one, and not even while they import.

    This process sees it when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
