"""The context of a running command: one open transaction, and all injected dependencies.

Belongs here: this value. Does not belong here: opening and committing (`oltp/commands/execute.py`), aggregates
(`oltp/store/rows.py`), stock counters (`oltp/store/stock.py`), events (`oltp/outbox.py`).

Statements are pipelined: `query` only queues a statement. A fetch waits for all queued statements, so queue all the
reads of a step before fetching the first. An error of a statement is raised at the next fetch, or at the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, LiteralString, TypeVar

import msgspec
import psycopg

from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.ids import NewId
from oltp.directory import Directory
from oltp.gateway import PaymentGateway

Row = tuple[Any, ...]
Answer = TypeVar("Answer")


class NotTogetherError(Exception):
    """Commands of a batch cannot share a transaction. The batch catches this and runs each command alone."""


class Notes(msgspec.Struct, kw_only=True):
    """What a command's caller learns besides the answer."""

    is_replayed: bool = False
    """Whether the answer was stored by an earlier run under the same key."""
    lsn: str = ""
    """The end of the write-ahead log after the commit; empty: the caller has to ask where the write is."""
    xid: int = 0
    """The id of the transaction that was committed."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The version of one aggregate that the caller has seen; a command that finds another one changes nothing."""

    aggregate_type: str
    aggregate_id: str
    version: int


@dataclass(frozen=True, kw_only=True)
class KeptBack:
    """The shared state of the commands of a batch until their writes are sent together (`oltp/commands/batch.py`)."""

    saves: list[tuple[CommandTransaction, Sequence[Any], Mapping[str, Any]]] = field(default_factory=list)
    """The transaction of the command, its changes (`oltp.outbox.Change`), and values of further columns."""
    asked: dict[Any, Callable[[], Any]] = field(default_factory=dict)
    """The queries of `once` by key, with the functions that wait for their answers."""
    locked: dict[Any, str] = field(default_factory=dict)
    """The idempotency key of the command that locked each aggregate."""


class CommandTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction of one command. READ COMMITTED; uuids are read as text, times in UTC."""

    connection: psycopg.Connection[Row]
    pod: str
    gateway: PaymentGateway
    directory: Directory | None
    """None: a pod without a directory, as in tests."""
    idempotency_key: str
    """The caller's key; it is passed on to the payment provider."""
    correlation_id: str
    causation_id: str | None
    traceparent: str | None
    occurred_at: datetime
    """The command's time: every `*_at` field and every event of the command has this value."""
    new_uuid: NewId
    directory_epoch: int = FIRST_DIRECTORY_EPOCH
    """Since when, in epochs of the directory, the merchant lives in the pod; its events say so."""
    foreseen: Row = ()
    """The answers to what `Command.foresee` returned, in its order; empty: nothing was foreseen."""
    last: list[tuple[bytes, Sequence[Any]]] = msgspec.field(default_factory=list)
    """Statements that `query_last` keeps back until just before the commit."""
    notes: Notes | None = None
    expects: Expected | None = None
    """None: any version will do."""
    xid: int = 0
    """The id of the transaction; 0: it was not asked."""
    kept: KeptBack | None = None
    """None: the command runs alone, and its writes are queued at once."""

    def new_id(self) -> str:
        """Return a new UUIDv7 as text."""
        return str(self.new_uuid())

    def query(
        self, statement: LiteralString | bytes, parameters: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> psycopg.Cursor[Row]:
        """Queue one statement; fetching from the cursor waits for this statement and all before it."""
        return self.connection.execute(statement, parameters)

    def query_last(self, statement: bytes, parameters: Sequence[Any]) -> None:
        """Keep a statement back until just before the commit, because other transactions wait for its row locks."""
        self.last.append((statement, parameters))

    def once(self, key: Any, ask: Callable[[], Callable[[], Answer]]) -> Callable[[], Answer]:
        """Run `ask` and return the function that waits for its answer; the commands of a batch share one query per key.

        Only for data that a command does not change and does not read again after a lock, because a shared answer may
        be older.
        """
        if self.kept is None:
            return ask()
        if key not in self.kept.asked:
            self.kept.asked[key] = cache(ask())
        return self.kept.asked[key]

    def lock_alone(self, aggregate: Any) -> None:
        """Note that this command locks the aggregate; NotTogetherError when another command of the batch locks it too.

        The other command's change of the aggregate is not written yet, so this command would read an old state.
        """
        if (
            self.kept is not None
            and self.kept.locked.setdefault(aggregate, self.idempotency_key) != self.idempotency_key
        ):
            raise NotTogetherError

    def send_last(self) -> None:
        """Queue the kept-back statements."""
        while self.last:
            self.query(*self.last.pop(0))
