"""One look for a key at a time: requests that come while it is looked for wait for the same answer.

Without this, all requests of a busy key would look for it when what is remembered of it grows old, and most of them
would be refused, because few may look at once.

Belongs here: sharing a look among the requests of an event loop. Does not belong here: how long a key is remembered
(`api/keys/ring.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from api.calls import Caller
from api.declaring import Work
from api.executors import Executors
from api.keys.ring import FRESH_SECONDS, KeyRing

LOOK_SECONDS_MAX = 6.0


class KeyLooks:
    """The looks under way. Each event loop shares its own."""

    def __init__(self, ring: KeyRing, executors: Executors, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ring = ring
        self._executors = executors
        self._monotonic = monotonic
        self._under_way: dict[tuple[asyncio.AbstractEventLoop, str], tuple[float, asyncio.Task[Caller]]] = {}

    async def caller(self, text: str) -> Caller:
        """Return the caller of a key; UnauthenticatedError when it opens nothing."""
        known = self._ring.remembered(text)
        if known is not None:
            return known
        # Who stops waiting does not end the look of the others.
        return await asyncio.shield(self._look((asyncio.get_running_loop(), text)))

    def _look(self, name: tuple[asyncio.AbstractEventLoop, str]) -> asyncio.Task[Caller]:
        began, look = self._under_way.get(name, (0.0, None))
        # An older look may not see a revocation that a request has to see.
        if look is None or look.done() or self._monotonic() - began > FRESH_SECONDS:
            work = partial(self._ring.caller, name[1])
            look = asyncio.ensure_future(self._executors.run(Work.IDENTITY, work, LOOK_SECONDS_MAX))
            self._under_way[name] = (self._monotonic(), look)
            look.add_done_callback(partial(self._forget, name))
        return look

    def _forget(self, name: tuple[asyncio.AbstractEventLoop, str], look: asyncio.Task[Caller]) -> None:
        if not look.cancelled():
            look.exception()  # it was told to those that wait; nobody may be left
        if self._under_way.get(name, (0.0, None))[1] is look:
            del self._under_way[name]
