"""Renews the leases of loads that take longer than a lease.

Belongs here: one thread per process that renews all leases it holds. Does not belong here: loading (`reading.py`),
how long a lease lasts (`kinds.py`).

A short lease lets the next reader load soon after a loader was killed; renewing it lets a slow loader finish. A loader
that hangs is renewed for a limited time only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from contracts.errors import CacheUnavailableError
from derived.answer_cache.port import AnswerCache, AnswerKey

RENEWALS_PER_LEASE = 3


@dataclass(frozen=True, kw_only=True)
class HeldLease:
    """A lease that this process holds."""

    key: AnswerKey
    token: str
    lease_seconds: float
    until: float
    """By the clock of this process: it is not renewed after this moment."""


class LeaseKeeper:
    """Renews leases while their loads run. Its thread begins with the first lease."""

    def __init__(self, cache: AnswerCache, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._monotonic = monotonic
        self._held: dict[str, HeldLease] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._every_seconds = float("inf")

    def close(self) -> None:
        """Stop renewing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def holding(self, key: AnswerKey, token: str, *, lease_seconds: float, seconds_max: float) -> Iterator[None]:
        """Renew the lease until the block ends, or for `seconds_max`."""
        until = self._monotonic() + seconds_max
        with self._lock:
            self._held[token] = HeldLease(key=key, token=token, lease_seconds=lease_seconds, until=until)
            self._every_seconds = min(self._every_seconds, lease_seconds / RENEWALS_PER_LEASE)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(token, None)

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            self.renew_all()

    def renew_all(self) -> None:
        """Renew every lease once; forget those that were lost or held too long."""
        with self._lock:
            held = list(self._held.values())
        for lease in held:
            try:
                is_held = self._monotonic() < lease.until and self._cache.renew(
                    lease.key, lease.token, lease_seconds=lease.lease_seconds
                )
            except CacheUnavailableError:
                continue
            if not is_held:
                with self._lock:
                    self._held.pop(lease.token, None)
