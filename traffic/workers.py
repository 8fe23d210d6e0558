"""Worker processes that run many commands in parallel, each with its own connections to every pod.

Belongs here: starting them, giving them work with a bounded queue, and stopping them. Does not belong here: the work.

We use processes and not threads, because commands are mostly Python code. The work is a plain function of a CommandPod
and one argument; arguments and results are pickled. With 0 processes the work runs sequentially in the caller's
process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar

from contracts.errors import StackError
from contracts.settings import Settings
from oltp.commands.execute import CommandPod, build_command_pod
from traffic.children import interrupts_held_back, spawn_context

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Work = Callable[[CommandPod, Argument], Result]

IN_FLIGHT_PER_PROCESS = 4
PARENT_LOOK_SECONDS = 1.0
CONNECTIONS_MAX = 4
"""Connections of one process to one pod; they are opened on demand."""


def process_count() -> int:
    """Return one more than the number of processors: commands wait for the server, so this keeps the machine busy."""
    return min(8, (os.cpu_count() or 1) + 1)


class Pods:
    """The command pods of one process, opened at first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pods: dict[str, CommandPod] = {}

    def pod(self, name: str) -> CommandPod:
        """Return the named pod."""
        if name not in self._pods:
            control_dsn = self._settings.control_dsn
            pod = build_command_pod(self._settings.pod(name), control_dsn=control_dsn, connections_max=CONNECTIONS_MAX)
            self._pods[name] = pod
        return self._pods[name]

    def close(self) -> None:
        """Close every pod."""
        for pod in self._pods.values():
            pod.close()


class Workers(AbstractContextManager["Workers"]):
    """Runs work for pods in `processes` processes. Use it as a context manager."""

    def __init__(self, settings: Settings, processes: int | None = None) -> None:
        self._processes = process_count() if processes is None else processes
        self._settings = settings
        self._here = Pods(settings)
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Prepare the pool; processes start with the first work."""
        if self._processes:
            self._executor = ProcessPoolExecutor(
                self._processes, spawn_context(), _start, (self._settings, os.getpid())
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel work that has not started, and stop the processes."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._here.close()

    def run(self, work: Work[Argument, Result], items: Iterable[tuple[str, Argument]]) -> Iterator[Result]:
        """Yield the result of `work` for every (pod, argument), in the order of completion.

        `items` is read lazily, as far as the queue has room. Exceptions of `work` are raised here; StackError when a
        process was killed.
        """
        if self._executor is None:
            for pod, argument in items:
                yield work(self._here.pod(pod), argument)
            return
        try:
            yield from self._run(self._executor, work, items)
        except BrokenProcessPool:
            raise StackError("A worker process was killed; run the command again, it goes on where it was.") from None

    def _run(
        self, executor: ProcessPoolExecutor, work: Work[Argument, Result], items: Iterable[tuple[str, Argument]]
    ) -> Iterator[Result]:
        pending: set[Future[Any]] = set()
        for pod, argument in items:
            with interrupts_held_back():  # submit may start a process
                pending.add(executor.submit(_work, work, pod, argument))
            if len(pending) >= self._processes * IN_FLIGHT_PER_PROCESS:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


_pods: Pods | None = None


def _start(settings: Settings, parent: int) -> None:
    """Prepare a worker process; `parent` is the process id of its parent, which may have ended since."""
    global _pods
    threading.Thread(target=_end_without_parent, args=(parent,), daemon=True).start()
    _pods = Pods(settings)


def _end_without_parent(parent: int) -> None:
    """End this process when its parent has ended: else a worker of a killed parent would wait for work forever."""
    while os.getppid() == parent:
        time.sleep(PARENT_LOOK_SECONDS)
    os._exit(1)


def _work(work: Work[Argument, Result], pod: str, argument: Argument) -> Result:
    if _pods is None:
        raise RuntimeError("This process was not started as a worker.")
    return work(_pods.pod(pod), argument)
