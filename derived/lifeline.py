"""Ending with the process that started this one: whoever works for a process that was killed must not go on.

Belongs here: noticing that the parent is gone. Does not belong here: the locks of what is done (`derived/builds.py`).
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
"""The exit code of a process that ended because its parent had (EX_TEMPFAIL)."""


def end_with_parent(parent_id: int) -> None:
    """End this process, without any ceremony, as soon as its parent has ended; at once if that is so already.

    On Linux the kernel does it; elsewhere, and should the kernel not, a thread looks a few times a second.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_id:
        os._exit(ORPHANED)
    threading.Thread(target=_watch_parent, args=(parent_id,), name="lifeline", daemon=True).start()


def end_with_input() -> None:
    """End this process as soon as nobody holds the other end of its standard input any more, whatever it is doing.

    For a child whose orders come through a pipe: it is closed when the parent ends, however that came about.
    """
    threading.Thread(target=_watch_input, name="lifeline", daemon=True).start()


def _watch_parent(parent_id: int) -> None:
    while os.getppid() == parent_id:
        time.sleep(LOOK_SECONDS)
    os._exit(ORPHANED)


def _watch_input() -> None:
    poll = select.poll()
    poll.register(0, 0)  # only the end: what comes in is read by the main thread
    while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
        time.sleep(LOOK_SECONDS)
    os._exit(ORPHANED)
