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
LOAN_PART = 0.5
"""The part of what is earned that pays back a loan: the rest of the work goes on with the other part."""


@dataclass(kw_only=True)
class CpuShare:
    """Processor seconds that are earned at `share` per second and spent by work; urgent work may borrow.

    Large work (a build of the warehouse) takes a loan, which a part of the earnings pays back: so it makes small work
    slower and never stops it, and over time no more than the share is used.
    """

    share: float
    at: float
    """When `credit` was computed, in seconds of a monotonic clock."""
    credit: float = 0.0
    """Processor seconds that may be used now; negative after work that took more than there was."""
    loan: float = 0.0
    """Processor seconds of large work that are not paid back yet; the next one waits until they are."""
    spent: float = 0.0
    """Processor seconds that work has used in this process since the beginning."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def earn(self, now: float) -> None:
        """Add what was earned since the last call, of any thread."""
        with self._lock:
            earned = max(now - self.at, 0.0) * self.share
            paid = min(earned * LOAN_PART, self.loan)
            self.loan -= paid
            self.credit = min(self.credit + earned - paid, SAVED_SECONDS_MAX * self.share)
            self.at = max(now, self.at)

    def spend(self, cpu_seconds: float) -> None:
        """Take off what work has used."""
        with self._lock:
            self.credit -= cpu_seconds
            self.spent += cpu_seconds

    def lend(self, cpu_seconds: float, elsewhere: float = 0.0) -> None:
        """Note what large work has used in this process, and elsewhere for it."""
        with self._lock:
            self.loan += cpu_seconds + elsewhere
            self.spent += cpu_seconds

    def may_borrow(self, *, is_urgent: bool = False) -> bool:
        """Return whether large work may begin: when the loan before it is paid back; urgent work within a bound."""
        return self.share > 0 and self.loan <= (BORROWED_SECONDS_MAX * self.share * LOAN_PART if is_urgent else 0.0)

    def may_begin(self, *, is_urgent: bool = False) -> bool:
        """Return whether work may begin; urgent work may begin with a debt."""
        if self.share <= 0:
            return False
        return self.credit >= (-BORROWED_SECONDS_MAX * self.share if is_urgent else 0.0)
