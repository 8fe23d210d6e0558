"""Commands that many ask for at once, run together: for handlers on the event loop.

Belongs here: the pod of a command's merchant, its place among the calls of the class, and where its write is. Does not
belong here: who goes with whom (`oltp/commands/gathering.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

from api.declaring import Criticality, Work
from api.executors import Executors
from api.pods import FENCED_ATTEMPTS, Done, Pods
from contracts.errors import PodFencedError
from oltp.commands.execute import Command, CommandPod
from oltp.commands.gathering import Gathering
from oltp.transaction import Notes


class Gathered:
    """The gatherings of one class of work. Each event loop has its own."""

    def __init__(self, pods: Pods, executors: Executors, work: Work = Work.CHECKOUT) -> None:
        self._pods = pods
        self._executors = executors
        self._work = work
        self._gatherings: dict[tuple[asyncio.AbstractEventLoop, str], Gathering] = {}

    async def execute(self, command: Command[Any], *, idempotency_key: str, criticality: Criticality) -> Done:
        """Run a command in its merchant's pod; where the merchant has moved meanwhile, once more in its new pod."""
        with self._executors.place(self._work, criticality):
            for attempt in range(FENCED_ATTEMPTS):
                pod, notes = await self._home(command.merchant_id), Notes()
                try:
                    answer = await self._gathering(pod).execute(command, idempotency_key=idempotency_key, notes=notes)
                except PodFencedError:
                    self._pods.forget(command.merchant_id)
                    if attempt == FENCED_ATTEMPTS - 1:
                        raise
                    continue
                return await self._located(self._pods.done(pod, command, idempotency_key, answer, notes), notes)
        raise AssertionError("The last attempt returns or raises.")

    async def _home(self, merchant_id: str) -> CommandPod:
        if (known := self._pods.known_home(merchant_id)) is not None:
            return known
        home: CommandPod = await self._in_thread(partial(self._pods.home, merchant_id))
        return home

    async def _located(self, done: Done, notes: Notes) -> Done:
        """Return it with its position; that of a stored answer has to be asked for."""
        if notes.lsn:
            return done
        position = await self._in_thread(done.where)
        return replace(done, where=lambda: position)

    async def _in_thread(self, function: Any) -> Any:
        return await asyncio.wrap_future(self._executors.submit(self._work, function))

    def _gathering(self, pod: CommandPod) -> Gathering:
        name = (asyncio.get_running_loop(), pod.pod)
        if name not in self._gatherings:
            self._gatherings[name] = Gathering(pod, lambda job: self._executors.submit(self._work, job))
        return self._gatherings[name]
