"""Ending a process together with its parent: a process that works for a killed process must not continue.

Belongs here: noticing that the parent is gone. Does not belong here: the locks of the work (`derived/builds.py`).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress

LOOK_SECONDS = 0.2
PR_SET_PDEATHSIG = 1
ORPHANED = 75
"""Exit code of a process that ended because its parent had ended (EX_TEMPFAIL)."""


def end_with_parent(parent_id: int) -> None:
    """End this process without cleanup as soon as its parent has ended; at once if it has ended already.

    On Linux the kernel kills it. On other systems, or if the kernel does not, a thread checks a few times a second.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_id:
        os._exit(ORPHANED)
    threading.Thread(target=_watch_parent, args=(parent_id,), name="lifeline", daemon=True).start()


def end_with_input() -> None:
    """End this process as soon as the other end of its standard input is closed, whatever it is doing.

    For a child that reads its orders from a pipe: the pipe is closed when the parent ends, also if it is killed.
    """
    threading.Thread(target=_watch_input, name="lifeline", daemon=True).start()


def _watch_parent(parent_id: int) -> None:
    while os.getppid() == parent_id:
        time.sleep(LOOK_SECONDS)
    os._exit(ORPHANED)


def _watch_input() -> None:
    poll = select.poll()
    poll.register(0, 0)  # only wait for the hang-up: the main thread reads the input
    while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
        time.sleep(LOOK_SECONDS)
    os._exit(ORPHANED)
