"""The peak memory of a process, and the memory that is available.

Belongs here: reading both from the operating system. Does not belong here: limits of DuckDB (settings), alerts
(`repair/alerts/near_limits.py`).
"""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import psutil

MEGABYTE = 1_000_000
STATUS = Path("/proc/self/status")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def peak_memory_mb(*, with_children: bool = False) -> float:
    """Return the peak resident memory in megabytes: of this process, or the largest of it and its ended children."""
    found = _peak_kib()
    if with_children:
        found = max(found, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return found * 1024 / MEGABYTE


def _peak_kib() -> int:
    # Not from getrusage: its maximum includes the memory of the parent when it started this process.
    with suppress(OSError, StopIteration):
        lines = STATUS.read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_mb() -> float:
    """Return the available memory in megabytes: the container's limit if it is lower, else the machine's memory."""
    machine = int(psutil.virtual_memory().total)
    with suppress(OSError, ValueError):  # "max": there is no limit
        machine = min(machine, int(CONTAINER_LIMIT.read_text(encoding="ascii")))
    return machine / MEGABYTE
