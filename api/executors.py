"""Threads for what blocks: a bounded number per class of work, with a bounded queue before them.

Belongs here: how many run and wait, and what happens when there are more. Does not belong here: what they do.

A command is synchronous and waits for PostgreSQL most of its time. Each class has its own threads: a report that takes
minutes holds no thread that a checkout needs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from api.declaring import Criticality, Work
from contracts.errors import DeadlineError, OverloadedError

Result = TypeVar("Result")

THREADS: Mapping[Work, int] = {
    Work.CHECKOUT: 8,
    Work.STOREFRONT: 4,
    Work.ADMIN: 4,
    Work.OPERATOR: 2,
    Work.PROVIDER: 2,
    Work.IDENTITY: 2,
}
"""Checkouts have the most, because they wait the most."""
SHARES: Mapping[Criticality, float] = {
    Criticality.REPORT: 0.5,
    Criticality.PAGE: 0.7,
    Criticality.CART: 0.85,
    Criticality.CHECKOUT: 1.0,
}
"""How much of all places, taken together, calls of a criticality may find taken; beyond it they are refused first."""
WAITING_PER_THREAD = 8
"""How many calls of a class may wait for each of its threads; more are refused at once."""


class Executors:
    """The threads of one process. Close it at the end."""

    def __init__(self, threads: Mapping[Work, int] = THREADS) -> None:
        self._pools = {
            work: ThreadPoolExecutor(number, thread_name_prefix=f"api-{work}") for work, number in threads.items()
        }
        self._most = {work: number * (1 + WAITING_PER_THREAD) for work, number in threads.items()}
        self._under_way = dict.fromkeys(threads, 0)
        self._lock = threading.Lock()

    async def run(
        self,
        work: Work,
        function: Callable[[], Result],
        seconds: float,
        criticality: Criticality = Criticality.CHECKOUT,
    ) -> Result:
        """Run a function in a thread of this class; OverloadedError when too many wait, DeadlineError after `seconds`.

        After the deadline the function is not started any more; one that has begun ends by itself.
        """
        self._enter(work, criticality)
        future = self.submit(work, function)
        # The place is free when the thread is, not when the caller gives up.
        future.add_done_callback(lambda _: self._leave(work))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError:
            if not future.cancelled() and future.done() and (error := future.exception()) is not None:
                raise error from None
            raise DeadlineError(f"There was no answer within {seconds:g} s.") from None

    def submit(self, work: Work, function: Callable[[], Result]) -> Future[Result]:
        """Run a function in a thread of this class, for somebody who has a place."""
        return self._pools[work].submit(function)

    @contextmanager
    def place(self, work: Work, criticality: Criticality) -> Iterator[None]:
        """Hold a place of this class during the block; OverloadedError when too many wait."""
        self._enter(work, criticality)
        try:
            yield
        finally:
            self._leave(work)

    def close(self) -> None:
        """Refuse what waits, and wait for what runs."""
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)

    def _enter(self, work: Work, criticality: Criticality) -> None:
        with self._lock:
            if self._under_way[work] >= self._most[work]:
                raise OverloadedError(f"Too many calls of the class {work} wait already.")
            if sum(self._under_way.values()) >= SHARES[criticality] * sum(self._most.values()):
                name = criticality.name.lower()
                raise OverloadedError(f"There is too much work now; what is as critical as a {name} is refused first.")
            self._under_way[work] += 1

    def _leave(self, work: Work) -> None:
        with self._lock:
            self._under_way[work] -= 1
