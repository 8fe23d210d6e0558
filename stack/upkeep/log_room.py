"""Trims the log as soon as the memory of its server is nearly full: removes entries that every copy has applied.

The hourly trim is too late in one case: a copy stops, the log becomes full, and the copy continues. Then nothing can be
published until the next trim. Belongs here: when the log is trimmed early. Does not belong here: which entries may be
removed (`streams/lag.py`).
"""

from __future__ import annotations

import logging
from contextlib import closing

from contracts.settings import Settings
from contracts.text import counted
from stack.looking.headroom import log_memory
from streams.lag import trim_log
from streams.logs import build_log

logger = logging.getLogger("tieout.upkeep")


def make_room(settings: Settings) -> int:
    """Remove applied entries if the log's server is near its limit; return how many were removed."""
    if not log_memory(settings).is_near:
        return 0
    with closing(build_log(settings)) as log:
        removed = sum(trim_log(log, pod.pod).removed_entries for pod in settings.pods)
    if removed:
        entries = counted(removed, "applied entry", "applied entries")
        logger.info("The log was nearly full: %s removed", entries)
    return removed
