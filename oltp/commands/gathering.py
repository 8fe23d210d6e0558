"""Commands of one type that come at once share a transaction: those that would wait anyway go together.

    gathering = Gathering(pod, threads.submit)
    answer = await gathering.execute(command, idempotency_key=..., notes=...)     # as `execute`, from one event loop

Belongs here: who goes with whom. Does not belong here: running commands together (`batch.py`) or alone (`execute.py`).

`AT_ONCE_MAX` transactions of a type are under way. Who comes while there are fewer runs at once, alone. Who comes later
waits for the first of them to end; then all who wait go together. So a command that comes alone waits for nobody, and
the more come at once, the less each of them costs: one commit, one statement per kind of row, one lock per stock
counter, one thread.

Each command keeps its key, its answer and its events. **One bad command stops only itself:** when a transaction of
several fails, each of its commands runs alone. So do the next `ALONE_AFTER_FAILURE` commands of the type: what is sold
out is often wanted several times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from contracts.errors import StackError
from oltp.commands.batch import NOT_TOGETHER, may_share, run_together
from oltp.commands.execute import Command, CommandPod, run_request
from oltp.commands.requests import Request, request_of
from oltp.transaction import Notes

Answer = TypeVar("Answer")
Submit = Callable[[Callable[[], list[Any]]], Future[list[Any]]]
"""Runs a function in a thread."""

AT_ONCE_MAX = 2
"""Transactions of a type under way: while PostgreSQL works on one, this process prepares the next."""
TOGETHER_MAX = 16
"""Commands of a transaction: by then most of what can be shared is shared."""
ALONE_AFTER_FAILURE = 64


class Gathering:
    """The commands of one pod and one event loop."""

    def __init__(self, pod: CommandPod, submit: Submit) -> None:
        self._pod = pod
        self._submit = submit
        self._queues: dict[type[Command[Any]], _Queue] = {}

    async def execute(self, command: Command[Answer], *, idempotency_key: str, notes: Notes | None = None) -> Answer:
        """Run a command as `execute` does, perhaps together with others that came at the same time."""
        request = request_of(self._pod, command, idempotency_key=idempotency_key, notes=notes)
        one = _One(command, request)
        queue = self._queues.setdefault(type(command), _Queue(self._pod, self._submit))
        queue.enter(one, is_alone=not may_share(self._pod, command))
        answer: Answer = await one.answer
        return answer


class _One:
    """A command that somebody waits for."""

    def __init__(self, command: Command[Any], request: Request) -> None:
        self.asked = (command, request)
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settle(self, answer: Any, error: BaseException | None) -> None:
        """Tell the answer or the error, unless nobody waits any more."""
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(answer)
        else:
            self.answer.set_exception(error)


class _Queue:
    """The commands of one type that wait, and the number of transactions under way."""

    def __init__(self, pod: CommandPod, submit: Submit) -> None:
        self._pod = pod
        self._submit = submit
        self._waiting: deque[_One] = deque()
        self._under_way = 0
        self._alone = 0
        """How many commands still have to run alone after a failure."""

    def enter(self, one: _One, *, is_alone: bool) -> None:
        """Begin with a command, or let it wait for the end of another."""
        if is_alone or self._alone:
            self._alone -= not is_alone
            self._begin([one], is_beside=True)
        elif self._under_way < AT_ONCE_MAX:
            # Nobody waits: who ends hands its place to those that wait.
            self._under_way += 1
            self._begin([one])
        else:
            self._waiting.append(one)

    def _begin(self, together: Sequence[_One], *, is_beside: bool = False) -> None:
        """Run commands in a thread; `is_beside`: they take none of the places."""
        loop = asyncio.get_running_loop()
        try:
            running = self._submit(partial(_run, self._pod, [one.asked for one in together]))
        except RuntimeError:
            # The threads were told to end.
            for one in together:
                one.settle(None, StackError("This process is ending; try again with the same key."))
            return
        end = partial(self._end, together, is_beside=is_beside)
        running.add_done_callback(lambda ended: loop.call_soon_threadsafe(end, ended))

    def _end(self, together: Sequence[_One], ended: Future[list[Any]], *, is_beside: bool) -> None:
        if not is_beside:
            self._hand_over()
        error = _error_of(ended)
        if len(together) > 1 and isinstance(error, NOT_TOGETHER):
            self._alone = ALONE_AFTER_FAILURE
            for one in together:
                self._begin([one], is_beside=True)
            return
        answers = ended.result() if error is None else [None] * len(together)
        for one, answer in zip(together, answers, strict=True):
            one.settle(answer, error)

    def _hand_over(self) -> None:
        """Begin with those that wait and that somebody still waits for, or give the place back."""
        following: list[_One] = []
        while self._waiting and len(following) < TOGETHER_MAX:
            one = self._waiting.popleft()
            if not one.answer.done():
                following.append(one)
        if following:
            self._begin(following)
        else:
            self._under_way -= 1


def _error_of(ended: Future[list[Any]]) -> BaseException | None:
    return asyncio.CancelledError() if ended.cancelled() else ended.exception()


def _run(pod: CommandPod, asked: list[tuple[Command[Any], Request]]) -> list[Any]:
    if len(asked) == 1:
        return [run_request(pod, *asked[0])]
    return run_together(pod, asked)
