"""Sends what waits for the endpoints of one pod, until it is told to stop.

At least once: a delivery counts as told when its endpoint has answered 2xx and that is committed. A process that is
killed in between sends the same message with the same Webhook-Id again. One endpoint that is slow or refuses takes its
own few places, never those of others; after three failures in a row it has one place until it takes something.

Belongs here: what is sent when, and how much at once. Does not belong here: one attempt
(`derived/webhooks/posting.py`), what waits (`derived/webhooks/queue.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import psycopg

from contracts.clock import Clock, utc_now
from derived.webhooks.posting import Attempt, Poster
from derived.webhooks.queue import Due, Queue, waiting_of

AT_ONCE = 64
AT_ONCE_PER_ENDPOINT = 4
FAILURES_BEFORE_ONE = 3
LOOK_SECONDS = 0.5
ROOM_SECONDS = 15.0
PRUNE_SECONDS = 3_600.0
AGAIN_SECONDS = 2.0

logger = logging.getLogger("tieout.webhooks")

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Sending:
    """How the messages of one pod are sent."""

    control_dsn: str
    pod: str
    give_up: timedelta
    waiting_max: int
    keep: timedelta
    poster: Callable[[], Poster]
    proven_cut: Callable[[], int]
    """Returns the cut up to which the newest comparisons have found the notes consistent."""
    clock: Clock = utc_now


def run_sending(how: Sending, stop: threading.Event) -> None:
    """Send until `stop`; what was begun is brought to its end. When the database fails, go on once it answers."""
    while not stop.is_set():
        try:
            with psycopg.connect(how.control_dsn, autocommit=True, connect_timeout=10) as connection:
                if not _is_alone(connection, how.pod):
                    stop.wait(AGAIN_SECONDS)
                    continue
                queue = Queue(connection=connection, pod=how.pod, give_up=how.give_up, chance=random.Random())
                asyncio.run(_Sender(how, queue).run(stop))
        except psycopg.Error as error:
            reason = str(error).strip().partition("\n")[0]
            logger.warning("Webhooks of %s wait: %s", how.pod, reason)
            stop.wait(AGAIN_SECONDS)


def _is_alone(connection: psycopg.Connection[Any], pod: str) -> bool:
    """Return whether no other process sends the pod's messages: two would send an aggregate's events out of order."""
    row = connection.execute("select pg_try_advisory_lock(hashtext('webhooks.sender'), hashtext(%s))", [pod]).fetchone()
    return row is not None and bool(row[0])


@dataclass(kw_only=True)
class _Places:
    """Which endpoint has how much under way."""

    under_way: set[tuple[str, str]] = field(default_factory=set)
    taken: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def free(self, endpoint_id: str) -> int:
        """Return how many more messages may be sent to an endpoint."""
        most = 1 if self.failures[endpoint_id] >= FAILURES_BEFORE_ONE else AT_ONCE_PER_ENDPOINT
        return min(most - self.taken[endpoint_id], AT_ONCE - len(self.under_way))

    def take(self, due: Due) -> None:
        """Take a place."""
        self.under_way.add((due.endpoint_id, due.event_id))
        self.taken[due.endpoint_id] += 1

    def leave(self, due: Due) -> None:
        """Give a place back."""
        self.under_way.discard((due.endpoint_id, due.event_id))
        self.taken[due.endpoint_id] -= 1
        self.taken += Counter()


class _Sender:
    def __init__(self, how: Sending, queue: Queue) -> None:
        self._how = how
        self._queue = queue
        self._places = _Places()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._error: psycopg.Error | None = None
        self._room_at = self._pruned_at = float("-inf")

    async def run(self, stop: threading.Event) -> None:
        async with self._how.poster() as poster:
            after, begun = "", 0
            while not stop.is_set() and self._error is None:
                await self._keep()
                found, after = await self._asked(partial(self._queue.due, after, self._how.clock()))
                begun += self._begin(poster, found)
                if after:
                    continue
                if not begun:
                    # Until something is due, has been answered, or what began has made room.
                    self._wake.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)
                begun = 0
            if self._tasks:
                await asyncio.wait(self._tasks)
        if self._error is not None:
            raise self._error

    def _begin(self, poster: Poster, found: Sequence[Due]) -> int:
        begun = 0
        for endpoint_id, rows in waiting_of(found).items():
            fresh = [row for row in rows if (endpoint_id, row.event_id) not in self._places.under_way]
            for due in fresh[: max(0, self._places.free(endpoint_id))]:
                self._places.take(due)
                task = asyncio.create_task(self._send(poster, due))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                begun += 1
        return begun

    async def _send(self, poster: Poster, due: Due) -> None:
        try:
            body = await self._asked(partial(self._queue.body, due))
            if body is not None:
                await self._note(due, await poster.post(due, body, self._how.clock()))
        except psycopg.Error as error:
            # What was taken and is not noted is sent again.
            self._error = error
        finally:
            self._places.leave(due)
            self._wake.set()

    async def _note(self, due: Due, attempt: Attempt) -> None:
        now = self._how.clock()
        if attempt.is_taken and attempt.status is not None:
            self._places.failures.pop(due.endpoint_id, None)
            await self._asked(partial(self._queue.acknowledged, due, attempt.status, now))
            return
        self._places.failures[due.endpoint_id] += 1
        is_parked = await self._asked(partial(self._queue.failed, due, attempt.status, attempt.reason, now))
        said = "is parked" if is_parked else "does not have a message"
        level = logging.ERROR if is_parked else logging.INFO
        logger.log(level, "%s: endpoint %s %s: %s.", self._how.pod, due.endpoint_id, said, attempt.reason)

    async def _keep(self) -> None:
        """Do now and then what is not sending."""
        now = asyncio.get_running_loop().time()
        if now - self._room_at >= ROOM_SECONDS:
            self._room_at = now
            await self._asked(partial(self._queue.look_at_room, self._how.waiting_max, self._how.clock()))
            await self._asked(self._queue.remove_deleted)
        if now - self._pruned_at >= PRUNE_SECONDS:
            self._pruned_at = now
            await self._prune()

    async def _prune(self) -> None:
        try:
            proven = await asyncio.to_thread(self._how.proven_cut)
        except Exception as error:  # any error: nothing is pruned, and sending goes on
            logger.warning("%s: old notes are kept, %s.", self._how.pod, type(error).__name__)
            return
        await self._asked(partial(self._queue.prune, self._how.keep, proven, self._how.clock()))

    async def _asked(self, ask: Callable[[], Result]) -> Result:
        """Ask the queue in a thread, one question at a time: it has one connection."""
        async with self._lock:
            return await asyncio.to_thread(ask)
