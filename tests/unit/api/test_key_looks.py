"""Requests of one key share the look for it, and a look that is too old is not shared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from api.calls import Caller
from api.declaring import Role, Work
from api.executors import WAITING_PER_THREAD, Executors
from api.keys.looking import KeyLooks
from api.keys.ring import FRESH_SECONDS
from contracts.errors import UnauthenticatedError

FOUND = Caller(key_id="1" * 12, role=Role.ADMIN, merchant_id="shop")
MANY = 5 * (1 + WAITING_PER_THREAD)
"""More than may look at once."""


class Ring:
    """A ring that remembers nothing, whose looks wait until the test lets them end."""

    def __init__(self) -> None:
        self.looks = 0
        self.may_end = threading.Event()
        self.answer: Caller | Exception = FOUND

    def remembered(self, text: str) -> None:
        return None

    def caller(self, text: str) -> Caller:
        self.looks += 1
        answer = self.answer
        assert self.may_end.wait(10)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Asking:
    """Looks over such a ring, with a clock that the test moves."""

    def __init__(self) -> None:
        self.ring, self.now, self.executors = Ring(), 0.0, Executors({Work.IDENTITY: 1})
        ring: Any = self.ring
        self.keys = KeyLooks(ring, self.executors, lambda: self.now)

    async def begin(self, text: str, number: int = 1) -> list[asyncio.Task[Caller]]:
        """Let callers ask; return when each of them waits."""
        asked = [asyncio.ensure_future(self.keys.caller(text)) for _ in range(number)]
        await asyncio.sleep(0)
        return asked


def run(test: Callable[[Asking], Awaitable[None]]) -> None:
    async def go() -> None:
        asking = Asking()
        try:
            await test(asking)
        finally:
            asking.ring.may_end.set()
            asking.executors.close()

    asyncio.run(go())


def test_many_requests_of_a_key_look_once() -> None:
    async def test(asking: Asking) -> None:
        asked = await asking.begin("key", MANY)
        asking.ring.may_end.set()
        assert await asyncio.gather(*asked) == [FOUND] * MANY
        assert asking.ring.looks == 1
        assert await asking.keys.caller("key") == FOUND and asking.ring.looks == 2

    run(test)


def test_each_of_them_is_told_the_error() -> None:
    async def test(asking: Asking) -> None:
        asking.ring.answer = UnauthenticatedError("It was revoked.")
        asked = await asking.begin("key", 3)
        asking.ring.may_end.set()
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in told] == [UnauthenticatedError] * 3 and asking.ring.looks == 1

    run(test)


def test_a_request_that_ends_early_ends_no_look_of_others() -> None:
    async def test(asking: Asking) -> None:
        first, second = await asking.begin("key", 2)
        first.cancel()
        asking.ring.may_end.set()
        assert await second == FOUND
        with pytest.raises(asyncio.CancelledError):
            await first

    run(test)


def test_a_look_that_began_before_a_revocation_may_have_taken_effect_is_not_shared() -> None:
    async def test(asking: Asking) -> None:
        (old,) = await asking.begin("key")
        await asyncio.to_thread(_until, lambda: asking.ring.looks == 1)
        asking.ring.answer = UnauthenticatedError("It was revoked.")
        asking.now += FRESH_SECONDS + 0.01
        (new,) = await asking.begin("key")
        asking.ring.may_end.set()
        assert await old == FOUND
        with pytest.raises(UnauthenticatedError):
            await new
        assert asking.ring.looks == 2

    run(test)


def _until(condition: Callable[[], bool]) -> None:
    event = threading.Event()
    while not condition():
        event.wait(0.001)
