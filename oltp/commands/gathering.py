"""Commands of one type that come at once share a transaction: those that would wait anyway go together.

    gathering = Gathering(pod)
    answer = gathering.execute(command, idempotency_key=..., notes=...)     # as `execute`, from many threads

Belongs here: who goes with whom. Does not belong here: running commands together (`batch.py`) or alone (`execute.py`).

`AT_ONCE_MAX` transactions of a type are under way. Who comes while there are fewer runs at once, alone. Who comes later
waits for the first of them to end; then all who wait go together, run by the thread of the first one. So a command that
comes alone waits for nobody, and the more come at once, the less each of them costs: one commit, one statement per kind
of row, one lock per stock counter.

Each command keeps its key, its answer and its events. **One bad command stops only itself:** when a transaction of
several fails, each of its commands runs alone, in the thread that waits for it. So do the next `ALONE_AFTER_FAILURE`
commands of the type: what is sold out is often wanted several times.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

from contracts.errors import StackError
from oltp.commands.batch import NOT_TOGETHER, may_share, run_together
from oltp.commands.execute import Command, CommandPod, run_request
from oltp.commands.requests import Request, request_of
from oltp.transaction import Expected, Notes

Answer = TypeVar("Answer")

AT_ONCE_MAX = 2
"""Transactions of a type under way: while PostgreSQL works on one, this process prepares the next."""
TOGETHER_MAX = 16
"""Commands of a transaction: by then most of what can be shared is shared."""
ALONE_AFTER_FAILURE = 64


class Gathering:
    """The commands of one pod in one process. Thread-safe."""

    def __init__(self, pod: CommandPod) -> None:
        self._pod = pod
        self._lock = threading.Lock()
        self._queues: dict[type[Command[Any]], _Queue] = {}

    def execute(
        self,
        command: Command[Answer],
        *,
        idempotency_key: str,
        traceparent: str | None = None,
        notes: Notes | None = None,
        expects: Expected | None = None,
    ) -> Answer:
        """Run a command as `execute` does, perhaps together with others that came at the same time."""
        request = request_of(
            self._pod, command, idempotency_key=idempotency_key, traceparent=traceparent, notes=notes, expects=expects
        )
        if expects is not None or not may_share(self._pod, command):
            return run_request(self._pod, command, request)
        one = _One(command, request)
        self._queue(type(command)).pass_through(self._pod, one)
        if one.is_alone:
            return run_request(self._pod, command, request)
        if one.error is not None:
            raise one.error
        answer: Answer = one.answer
        return answer

    def _queue(self, kind: type[Command[Any]]) -> _Queue:
        with self._lock:
            return self._queues.setdefault(kind, _Queue())


class _One:
    """A command that a thread waits for."""

    def __init__(self, command: Command[Any], request: Request) -> None:
        self.command = command
        self.request = request
        self.led: Sequence[_One] = ()
        """The commands that this command's thread has to run, its own first; empty: another thread runs it."""
        self.answer: Any = None
        self.error: BaseException | None = None
        self.is_alone = False
        """Whether its thread has to run it alone, beside all others."""
        self.turn = threading.Event()
        """Set when it is settled, or has to lead."""


class _Queue:
    """The commands of one type that wait, and the number of transactions under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_One] = deque()
        self._under_way = 0
        self._alone = 0
        """How many commands still have to run alone after a failure."""

    def pass_through(self, pod: CommandPod, one: _One) -> None:
        """Return when the command is settled, or has to run alone."""
        self._enter(one)
        if not one.led and not one.is_alone:
            one.turn.wait()
        if one.led:
            self._lead(pod, one.led)

    def _enter(self, one: _One) -> None:
        with self._lock:
            if self._alone:
                self._alone -= 1
                one.is_alone = True
            elif self._under_way < AT_ONCE_MAX:
                # Nobody waits: who ends with others waiting hands its place to them.
                self._under_way += 1
                one.led = (one,)
            else:
                self._waiting.append(one)

    def _lead(self, pod: CommandPod, led: Sequence[_One]) -> None:
        is_refused = False
        try:
            is_refused = _run(pod, led)
        finally:
            with self._lock:
                if is_refused:
                    self._alone = ALONE_AFTER_FAILURE
                self._hand_over()
            for one in led[1:]:
                one.turn.set()

    def _hand_over(self) -> None:
        """Let the first of those that wait lead the others, or end."""
        if not self._waiting:
            self._under_way -= 1
            return
        number = min(TOGETHER_MAX, len(self._waiting))
        following = tuple(self._waiting.popleft() for _ in range(number))
        following[0].led = following
        following[0].turn.set()


def _run(pod: CommandPod, led: Sequence[_One]) -> bool:
    """Run commands, several in one transaction; return whether that failed, so that each has to run alone."""
    try:
        if len(led) == 1:
            led[0].answer = run_request(pod, led[0].command, led[0].request)
        else:
            answers = run_together(pod, [(one.command, one.request) for one in led])
            for one, answer in zip(led, answers, strict=True):
                one.answer = answer
    except Exception as error:
        if len(led) > 1 and isinstance(error, NOT_TOGETHER):
            for one in led:
                one.is_alone = True
            return True
        # Its own; or everybody's: the pod gives no connection, or the program is wrong.
        for one in led:
            one.error = error
    except BaseException:
        for one in led:
            one.error = StackError("The command was interrupted; try again with the same key.")
        raise
    return False
