"""Room in the log: what every copy has applied goes as soon as the memory of the log's server is nearly used up.

Otherwise it goes once an hour, which is too late where a copy stood still, the log became full, and the copy goes on:
nothing could be published until then. Belongs here: when. Does not belong here: what may go (`streams/lag.py`).
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
    """Remove applied entries if the log's server is near its limit; return how many went."""
    if not log_memory(settings).is_near:
        return 0
    with closing(build_log(settings)) as log:
        removed = sum(trim_log(log, pod.pod).removed_entries for pod in settings.pods)
    if removed:
        entries = counted(removed, "applied entry", "applied entries")
        logger.info("The log was nearly full: %s removed", entries)
    return removed
