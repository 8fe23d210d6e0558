"""What one key may ask for in this process: requests a second, and requests at once.

Belongs here: counting. Does not belong here: what is refused when the process is full (`api/executors.py`). The
counters are in memory, because a counter in a shared server costs more than most requests; with several processes each
has its share.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from contracts.errors import TooManyRequestsError

KEYS_MAX = 10_000


@dataclass(frozen=True, kw_only=True)
class KeyLimits:
    """The limits of each key."""

    per_second: float
    burst: float
    """How many may come at once after a pause."""
    in_flight: int


@dataclass
class _Account:
    tokens: float
    filled_at: float
    in_flight: int = 0


class KeyCounters:
    """Counts the requests of each key. For one event loop: nothing here waits."""

    def __init__(self, limits: KeyLimits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    @contextmanager
    def counted(self, key_id: str) -> Iterator[None]:
        """Count a request while the block runs; TooManyRequestsError when the key has no room for it."""
        account = self._account(key_id)
        if account.in_flight >= self._limits.in_flight:
            raise TooManyRequestsError(f"This key has {self._limits.in_flight} requests under way; wait for an answer.")
        if account.tokens < 1:
            raise TooManyRequestsError(f"This key may ask {self._limits.per_second:g} times a second.")
        account.tokens -= 1
        account.in_flight += 1
        try:
            yield
        finally:
            account.in_flight -= 1

    def _account(self, key_id: str) -> _Account:
        now = self._monotonic()
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account(tokens=self._limits.burst, filled_at=now)
            self._forget_old()
        account.tokens = min(self._limits.burst, account.tokens + (now - account.filled_at) * self._limits.per_second)
        account.filled_at = now
        self._accounts.move_to_end(key_id)
        return account

    def _forget_old(self) -> None:
        while len(self._accounts) > KEYS_MAX:
            # A forgotten key that still has requests under way begins anew with a full burst; that harms nobody.
            self._accounts.popitem(last=False)
