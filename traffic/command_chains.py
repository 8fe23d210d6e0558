"""Sequences of commands that workers run without decisions in between.

Belongs here: a command with its key and time, running many of them, and batching work by pod. Does not belong here:
which commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from contracts.errors import TieoutError
from oltp.commands.batch import BatchItem, execute_batch
from oltp.commands.execute import Command, CommandPod
from traffic.progress import OnProgress
from traffic.workers import Workers

Item = TypeVar("Item")


class KeyedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command, its idempotency key, and when it happened (None: now)."""

    key: str
    command: Command[Any]
    occurred_at: datetime | None = None


def run_commands(pod: CommandPod, commands: Sequence[KeyedCommand]) -> int:
    """Run the commands, batched where possible, and return their number; raise the first refusal."""
    for answer in execute_batch(pod, _items(commands)):
        if isinstance(answer, TieoutError):
            raise answer
    return len(commands)


def try_commands(pod: CommandPod, commands: Sequence[KeyedCommand]) -> int:
    """Run the commands as `run_commands` does, but ignore refusals: commands that depend on them are refused too."""
    execute_batch(pod, _items(commands))
    return len(commands)


def _items(commands: Sequence[KeyedCommand]) -> list[BatchItem]:
    return [
        BatchItem(command=item.command, idempotency_key=item.key, occurred_at=item.occurred_at) for item in commands
    ]


def batched_by_pod(
    items: Iterable[Item], home: Callable[[Item], str], at_once: int
) -> Iterator[tuple[str, list[Item]]]:
    """Yield (pod, items) in batches of `at_once` as they fill; `home` returns an item's pod."""
    waiting: dict[str, list[Item]] = {}
    for item in items:
        pod = home(item)
        batch = waiting.setdefault(pod, [])
        batch.append(item)
        if len(batch) == at_once:
            yield pod, waiting.pop(pod)
    yield from waiting.items()


def run_commands_by_pod(
    workers: Workers,
    homes: Mapping[str, str],
    commands: Sequence[KeyedCommand],
    step: str,
    on_progress: OnProgress,
    *,
    at_once: int,
    work: Callable[[CommandPod, Sequence[KeyedCommand]], int] = run_commands,
) -> None:
    """Run the commands with `work`, each in its merchant's pod (`homes`), in batches of `at_once`."""
    done = 0
    batches = batched_by_pod(commands, lambda item: homes[item.command.merchant_id], at_once)
    for count in workers.run(work, batches):
        done += count
        on_progress(step, done, len(commands))
