"""Reading an answer through the cache: from it, by loading it, or, where that is allowed, a stale one.

Belongs here: who loads, who waits and for how long, and what is served when something fails. Does not belong here: the
cache (`port.py`), loading itself (whoever reads passes it in).

    served = reader.read(PRODUCT_PAGE, key, load)

Nothing here is for decisions: a command reads again what it decides on.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from contracts.assembled import Assembled
from contracts.errors import CacheUnavailableError, ConflictError, InputError
from derived.answer_cache.breaker import Breaker
from derived.answer_cache.flights import Flights
from derived.answer_cache.gate import LoadGate
from derived.answer_cache.kinds import JITTER, AnswerKind
from derived.answer_cache.leases import LeaseKeeper
from derived.answer_cache.near import NearAnswers
from derived.answer_cache.port import AnswerCache, AnswerKey, Found, Held, Lifetime, Standing

FIRST_WAIT_SECONDS = 0.005
WAIT_SECONDS_MAX = 0.05
"""Between two questions of a reader that waits for somebody else's load."""

Load = Callable[[], Assembled]
Wait = Callable[[float], None]
"""Waits until it is worth asking again, at most so many seconds."""


class Source(StrEnum):
    """Where a served answer is from."""

    PROCESS = "process"
    CACHE = "cache"
    STALE = "stale"
    """From the cache, although something has touched it since, or its time is over."""
    OLTP = "oltp"


@dataclass(frozen=True, kw_only=True)
class Served:
    """An answer for whoever asked."""

    body: bytes | None
    """None: there is no such thing."""
    source: Source
    cut: int
    age_seconds: float
    """Since it was put together."""


class AnswerReader:
    """Reads answers through one cache. Thread safe; one for each process."""

    def __init__(
        self,
        cache: AnswerCache,
        *,
        near: NearAnswers | None = None,
        gate: LoadGate | None = None,
        breaker: Breaker | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._cache = cache
        self._near = near
        self._gate = gate or LoadGate()
        self._breaker = breaker or Breaker(monotonic=monotonic)
        self._keeper = LeaseKeeper(cache, monotonic=monotonic)
        self._flights = Flights()
        self._monotonic = monotonic
        self._sleep = sleep
        self._draw = draw

    def close(self) -> None:
        """Stop renewing leases; the cache stays open."""
        self._keeper.close()

    def read(self, kind: AnswerKind, key: AnswerKey, load: Load) -> Served:
        """Return an answer. Raises OverloadedError when it may wait and too many load; else what `load` raises."""
        if self._near is not None and (held := self._near.get(key)) is not None:
            return _served(held, Source.PROCESS)
        with self._flight(key) as wait:
            return self._read(kind, key, load, wait)

    def _read(self, kind: AnswerKind, key: AnswerKey, load: Load, wait: Wait) -> Served:
        deadline = self._monotonic() + kind.wait_seconds
        while True:
            found = self._ask(kind, key)
            if found is None:
                return self._load(kind, load)
            if found.standing is Standing.FRESH and found.held is not None:
                return _served(found.held, Source.CACHE)
            if found.standing in (Standing.LEASE, Standing.EARLY):
                return self._load_leased(kind, key, found, load)
            left = deadline - self._monotonic()
            if found.standing is Standing.UNREADY or left <= 0:
                return self._load_or_stale(kind, found, load)
            wait(left)

    @contextmanager
    def _flight(self, key: AnswerKey) -> Iterator[Wait]:
        """Hand out how to wait: one thread of the process asks again after ever longer pauses, others wait for it."""
        is_first, pause = False, FIRST_WAIT_SECONDS

        def wait(left_seconds: float) -> None:
            nonlocal is_first, pause
            landing = None if is_first else self._flights.join(key)
            if landing is not None:
                landing.wait(left_seconds)
                return
            is_first = True
            self._sleep(min(pause, left_seconds))
            pause = min(2 * pause, WAIT_SECONDS_MAX)

        try:
            yield wait
        finally:
            if is_first:
                self._flights.land(key)

    def _ask(self, kind: AnswerKind, key: AnswerKey) -> Found | None:
        """Ask the cache; None when it does not answer, or has not answered just now."""
        if not self._breaker.lets_through():
            return None
        ticket = self._near.ticket() if self._near is not None else 0
        try:
            early_factor = -math.log(1.0 - self._draw())
            found = self._cache.get_or_lease(key, lease_seconds=kind.lease_seconds, early_factor=early_factor)
        except CacheUnavailableError:
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        if self._near is not None and found.standing is Standing.FRESH and found.held is not None:
            self._near.put(key, found.held, ticket)
        return found

    def _load(self, kind: AnswerKind, load: Load) -> Served:
        with self._gate.place(kind.share, wait_seconds=kind.wait_seconds):
            answer = load()
        return Served(body=answer.body, source=Source.OLTP, cut=answer.cut, age_seconds=0.0)

    def _load_or_stale(self, kind: AnswerKind, found: Found, load: Load) -> Served:
        """Serve what was there before, if the kind allows it, else load without a lease."""
        if (stale := _stale(kind, found)) is not None:
            return stale
        return self._load(kind, load)

    def _load_leased(self, kind: AnswerKind, key: AnswerKey, found: Found, load: Load) -> Served:
        begun = self._monotonic()
        try:
            with (
                self._gate.place(kind.share, wait_seconds=kind.wait_seconds),
                self._keeper.holding(
                    key, found.token, lease_seconds=kind.lease_seconds, seconds_max=kind.load_seconds_max
                ),
            ):
                answer = load()
        except Exception as error:  # any error: the next reader may try at once
            self._give_back(key, found)
            if found.standing is Standing.EARLY and found.held is not None:
                return _served(found.held, Source.CACHE)
            if (stale := _stale(kind, found)) is not None and _may_hide(error):
                return stale
            raise
        self._fill(kind, key, found, answer, self._monotonic() - begun)
        return Served(body=answer.body, source=Source.OLTP, cut=answer.cut, age_seconds=0.0)

    def _give_back(self, key: AnswerKey, found: Found) -> None:
        try:
            self._cache.release(key, found.token)
        except CacheUnavailableError:
            self._breaker.failed()

    def _fill(self, kind: AnswerKind, key: AnswerKey, found: Found, answer: Assembled, seconds: float) -> None:
        """Fill the cache; whether it takes the answer does not matter to the one who has it."""
        fresh_seconds = kind.absent_seconds if answer.body is None else kind.fresh_seconds
        fresh_seconds *= 1.0 - JITTER * self._draw()
        lifetime = Lifetime(fresh_seconds=fresh_seconds, kept_seconds=fresh_seconds + kind.stale_seconds)
        try:
            self._cache.fill(key, found.token, answer, lifetime=lifetime, seconds=seconds)
        except CacheUnavailableError:
            self._breaker.failed()


def _served(held: Held, source: Source) -> Served:
    return Served(body=held.body, source=source, cut=held.cut, age_seconds=held.age_seconds)


def _stale(kind: AnswerKind, found: Found) -> Served | None:
    if found.held is None or kind.stale_seconds <= 0:
        return None
    return _served(found.held, Source.STALE)


def _may_hide(error: Exception) -> bool:
    """Return whether a stale answer is better than an error: not when the question itself is wrong."""
    return not isinstance(error, ConflictError | InputError)
