"""A share of a processor: how much processor time may be used by now, and how long to wait for more.

Belongs here: that arithmetic, on values. Does not belong here: measuring processor time (`stack/upkeep/reconciler.py`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

SAVED_SECONDS_MAX = 60.0
"""After a rest, at most the share of this time has been saved up."""
BORROWED_SECONDS_MAX = 600.0
"""Urgent work borrows at most the share of this time; it is paid back by other work that waits."""


@dataclass(kw_only=True)
class CpuShare:
    """Processor seconds that are earned at `share` per second and spent by work; urgent work may borrow."""

    share: float
    at: float
    """When `credit` was computed, in seconds of a monotonic clock."""
    credit: float = 0.0
    """Processor seconds that may be used now; negative after work that took more than there was."""
    spent: float = 0.0
    """Processor seconds that work has used since the beginning."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def earn(self, now: float) -> None:
        """Add what was earned since the last call, of any thread."""
        with self._lock:
            earned = max(now - self.at, 0.0) * self.share
            self.credit = min(self.credit + earned, SAVED_SECONDS_MAX * self.share)
            self.at = max(now, self.at)

    def spend(self, cpu_seconds: float) -> None:
        """Take off what work has used."""
        with self._lock:
            self.credit -= cpu_seconds
            self.spent += cpu_seconds

    def may_begin(self, *, is_urgent: bool = False) -> bool:
        """Return whether work may begin; urgent work may begin with a debt."""
        if self.share <= 0:
            return False
        return self.credit >= (-BORROWED_SECONDS_MAX * self.share if is_urgent else 0.0)
