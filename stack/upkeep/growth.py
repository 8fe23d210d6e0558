"""A worker that has grown too large begins anew between two pieces of its work.

Belongs here: its memory, and beginning anew. Does not belong here: the limits (`contracts/settings.py`), when a worker
looks at its memory.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

import psutil

BYTES_PER_MB = 1_000_000


def is_too_large(limit_mb: float) -> bool:
    """Return whether this process holds more resident memory than `limit_mb`, also after unused objects were freed."""
    if _used_mb() <= limit_mb:
        return False
    gc.collect()
    return _used_mb() > limit_mb


def begin_anew(*arguments: str) -> NoReturn:
    """Replace this process by `python -m ARGUMENTS`. It keeps its id, so for the supervisor it has not ended."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", *arguments])


def _used_mb() -> float:
    return psutil.Process().memory_info().rss / BYTES_PER_MB
