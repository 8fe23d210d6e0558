"""A circuit breaker: after some failures in a row, nobody asks for a while.

Belongs here: when to ask. Does not belong here: asking.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FAILURES_MAX = 3
REST_SECONDS = 1.0


class Breaker:
    """Counts failures in a row. Thread safe."""

    def __init__(
        self,
        *,
        failures_max: int = FAILURES_MAX,
        rest_seconds: float = REST_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max = failures_max
        self._rest_seconds = rest_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_at = float("-inf")

    def lets_through(self) -> bool:
        """Return whether to ask now. While it rests, one caller at a time may try, after each rest."""
        with self._lock:
            if self._failures < self._failures_max:
                return True
            now = self._monotonic()
            if now < self._closed_at:
                return False
            self._closed_at = now + self._rest_seconds
            return True

    def succeeded(self) -> None:
        """Note an answer: everybody may ask again."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Note that there was no answer in time."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._failures_max:
                self._closed_at = self._monotonic() + self._rest_seconds

    @property
    def is_resting(self) -> bool:
        """Whether nobody asks at the moment."""
        with self._lock:
            return self._failures >= self._failures_max
