"""What a command works with while it runs: one open transaction, and everything that is injected.

Belongs here: the value that is passed down. Does not belong here: opening and committing
(`oltp/commands/execute.py`), aggregates (`oltp/store/rows.py`), stock counters (`oltp/store/stock.py`), events
(`oltp/outbox.py`).

Statements are pipelined: `query` sends nothing by itself. Whoever fetches waits once for everything sent so far, so
send all the reads of a step before fetching the first. An error of a statement comes up at the next fetch, or at the
commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, LiteralString, TypeVar

import psycopg

from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.ids import NewId
from oltp.directory import Directory
from oltp.gateway import PaymentGateway

Row = tuple[Any, ...]
Answer = TypeVar("Answer")


class NotTogetherError(Exception):
    """Commands of a batch cannot share a transaction; each runs alone, and no caller sees this."""


@dataclass(frozen=True, kw_only=True)
class KeptBack:
    """What the commands of a batch have in common until they are written together (`oltp/commands/batch.py`)."""

    saves: list[tuple[CommandTransaction, Sequence[Any], Mapping[str, Any]]] = field(default_factory=list)
    """Whose changes (`oltp.outbox.Change`), and values of further columns."""
    asked: dict[Any, Callable[[], Any]] = field(default_factory=dict)
    """Questions with their answers."""
    locked: dict[Any, str] = field(default_factory=dict)
    """Who locked which aggregate, by idempotency key."""


@dataclass(frozen=True, kw_only=True)
class CommandTransaction:
    """One transaction of one command. READ COMMITTED; uuids are read as text, times in UTC."""

    connection: psycopg.Connection[Row]
    pod: str
    gateway: PaymentGateway
    directory: Directory | None
    """None: a pod that stands alone, as in tests."""
    idempotency_key: str
    """The caller's; it travels to the payment provider."""
    correlation_id: str
    causation_id: str | None
    traceparent: str | None
    occurred_at: datetime
    """The command's one moment: every `*_at` and every event of it carries this."""
    new_uuid: NewId
    directory_epoch: int = FIRST_DIRECTORY_EPOCH
    """Since when, in epochs of the directory, the merchant lives in the pod; its events say so."""
    last: list[tuple[bytes, Sequence[Any]]] = field(default_factory=list)
    """Statements that `query_last` keeps back until just before the commit."""
    kept: KeptBack | None = None
    """None: the command runs alone, and writes at once."""

    def new_id(self) -> str:
        """Return a new UUIDv7 as text."""
        return str(self.new_uuid())

    def query(
        self, statement: LiteralString | bytes, parameters: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> psycopg.Cursor[Row]:
        """Queue one statement; fetching from the cursor waits for it and all before it."""
        return self.connection.execute(statement, parameters)

    def query_last(self, statement: bytes, parameters: Sequence[Any]) -> None:
        """Keep a statement back until nothing but the commit is left: what it locks, everybody waits for."""
        self.last.append((statement, parameters))

    def once(self, key: Any, ask: Callable[[], Callable[[], Answer]]) -> Callable[[], Answer]:
        """Ask, and return the function that waits for the answer; the commands of a batch ask the same thing once.

        Only for what a command neither changes nor reads again after a lock: there an older answer would be wrong.
        """
        if self.kept is None:
            return ask()
        if key not in self.kept.asked:
            self.kept.asked[key] = cache(ask())
        return self.kept.asked[key]

    def lock_alone(self, aggregate: Any) -> None:
        """Note that this command locks the aggregate; NotTogetherError when another one of the batch does, too.

        What that one decided about the aggregate is not written yet, so this one would decide by an old state.
        """
        if (
            self.kept is not None
            and self.kept.locked.setdefault(aggregate, self.idempotency_key) != self.idempotency_key
        ):
            raise NotTogetherError

    def send_last(self) -> None:
        """Queue what was kept back."""
        while self.last:
            self.query(*self.last.pop(0))
