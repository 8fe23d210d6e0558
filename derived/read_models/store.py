"""The store of the read models: rows, parked events and positions in one PostgreSQL transaction.

Belongs here: connections, transactions and their errors; which statement implements which method of the port. Does not
belong here: the statements (`row_statements.py`, `positions.py`, `skipped.py`, `sums.py`), when they run
(`derived/keyed/projection.py`).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg

from contracts.errors import PropagationError
from contracts.settings import Settings
from derived.dsn import described, scrub
from derived.keyed.decoding import LatestEvent
from derived.keyed.projection import KeyedProjection, lake_opener
from derived.keyed.rows import Content, Root
from derived.keyed.store import Key, RefusedContentError, Standing, Stored
from derived.postgres_errors import is_of_content
from derived.read_models import positions, row_statements, skipped, sums
from derived.read_models.refused_events import refused_events
from streams.projection import ParkedEvent, PoisonEventError, Position, Work

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]


def build_read_model(
    settings: Settings, *, name: str, roots: Sequence[Root], sums: Sequence[str] = ()
) -> KeyedProjection:
    """Return the projection of a read model; connects at first use."""
    store = PostgresStore(name=name, roots=roots, dsn=settings.read_models_dsn)
    return KeyedProjection(name=name, roots=roots, sums=sums, store=store, open_lake=lake_opener(settings))


class PostgresStore:
    """The tables of one read model; any number of threads may use it, each with its own connection."""

    def __init__(self, *, name: str, roots: Sequence[Root], dsn: str) -> None:
        self._name = name
        self._roots = tuple(roots)
        self._dsn = dsn
        self._mine = threading.local()
        self._opened: list[Connection] = []
        weakref.finalize(self, _close_all, self._opened)

    @contextmanager
    def transaction(self) -> Iterator[PostgresSession]:
        """Begin a transaction; commit at the end, roll back after an error.

        Raises RefusedContentError if a row cannot be stored, PropagationError if the database cannot be used.
        """
        try:
            connection = self._connection()
            with connection.transaction(), connection.cursor() as cursor:
                yield PostgresSession(self._name, cursor, self._clean)
        except (psycopg.Error, UnicodeError) as error:
            if is_of_content(error):
                raise RefusedContentError(self._clean(error)) from None
            where = described(self._dsn)
            raise PropagationError(f"The read models ({where}) could not be used: {self._clean(error)}") from None

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSession]:
        """Begin a read-only transaction that reads one snapshot."""
        with self.transaction() as session:
            session.cursor.execute("set transaction isolation level repeatable read, read only")
            yield session

    @contextmanager
    def trial(self) -> Iterator[PostgresSession]:
        """Begin a transaction that is always rolled back."""
        with self.transaction() as session, session.cursor.connection.transaction(force_rollback=True):
            yield session

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        _close_all(self._opened)

    def _clean(self, error: Exception) -> str:
        return scrub(error, self._dsn)

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None or connection.closed or connection.broken:
            connection = psycopg.connect(self._dsn, autocommit=True)
            self._opened[:] = [other for other in self._opened if not other.closed] + [connection]
            with connection.cursor() as cursor:
                row_statements.prepare(cursor, self._roots)
            self._mine.connection = connection
        return connection


class PostgresSession:
    """One transaction, on behalf of one read model; `KeyedSession` describes each method."""

    def __init__(self, name: str, cursor: Cursor, clean: Callable[[Exception], str]) -> None:
        self._name = name
        self.cursor = cursor
        self._clean = clean

    def positions(self, pod: str) -> Stored:
        """Return epoch and position of every partition that has one."""
        return positions.read_positions(self.cursor, self._name, pod)

    def lock_positions(self, pod: str, partitions: Sequence[int]) -> Stored:
        """Lock and return the positions; create those of `partitions` that are missing, at the start."""
        return positions.lock_positions(self.cursor, self._name, pod, partitions)

    def move_positions(self, pod: str, epoch: str, moved: Mapping[int, Position], data_at: datetime) -> None:
        """Write new positions; the caller has locked them."""
        positions.move_positions(self.cursor, self._name, pod, epoch, moved, data_at)

    def set_back(self, pod: str, standings: Mapping[int, Standing]) -> None:
        """Write earlier positions, and delete what was parked after them; the caller has locked them."""
        positions.set_back(self.cursor, self._name, pod, standings)

    def parked_keys(self, pod: str) -> frozenset[str]:
        """Return the aggregate keys that have parked events."""
        return positions.parked_keys(self.cursor, self._name, pod)

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return the parked events, of these aggregates or of all, ordered by (cut, position)."""
        return positions.parked_events(self.cursor, self._name, pod, keys)

    def park_and_release(self, work: Work) -> None:
        """Delete the parked events of a step's released keys, then park its new ones."""
        positions.park_and_release(self.cursor, self._name, work)

    def park(self, pod: str, rows: Sequence[Mapping[str, Any]], error: str) -> None:
        """Park an aggregate's events; the first of them cannot be applied because of `error`."""
        positions.park_rows(self.cursor, self._name, pod, rows, error)

    def skip(self, pod: str, event_id: str, *, reason: str, by: str) -> None:
        """Skip a parked event permanently."""
        skipped.skip(self.cursor, self._name, pod, event_id, reason=reason, by=by)

    def skipped_ids(self, pod: str) -> Sequence[str]:
        """Return the ids of the skipped events."""
        return skipped.skipped_ids(self.cursor, self._name, pod)

    def write(self, root: Root, content: Content) -> None:
        """Upsert the rows that are newer than the stored ones."""
        row_statements.write(self.cursor, root, content)

    def insert(self, root: Root, content: Content) -> bool:
        """Insert rows; return False and write nothing if a key has a row already, or if a row cannot be stored."""
        return row_statements.insert(self.cursor, root, content)

    def write_or_refuse(self, root: Root, events: Sequence[LatestEvent]) -> list[PoisonEventError]:
        """Write the events that the database accepts; return the others with its reasons."""
        return refused_events(self.cursor, root, events, self._clean)

    def delete(self, root: Root, keys: Sequence[Key], pod: str) -> int:
        """Delete a pod's rows of these aggregates; return the number of root rows."""
        return row_statements.delete_keys(self.cursor, root, keys, pod)

    def delete_pod(self, root: Root, pod: str, *, except_keys: Sequence[Key]) -> int:
        """Delete everything of a pod except `except_keys`; return the number of root rows."""
        return row_statements.delete_pod(self.cursor, root, pod, except_keys=except_keys)

    def pods_of(self, root: Root, keys: Sequence[Key]) -> Mapping[str, set[Key]]:
        """Return pod -> those of these aggregates that have a row of that pod."""
        return row_statements.by_pod(self.cursor, root, keys)

    def digests(self, root: Root, keys: Sequence[Key]) -> set[tuple[str, ...]]:
        """Return (table, merchant_id, id, digest of the rows) for what is stored of these aggregates."""
        return row_statements.digests(self.cursor, root, keys)

    def digest_of_pod(self, root: Root, pod: str) -> object:
        """Return a digest of a pod's rows, independent of their order."""
        return row_statements.digest_of_pod(self.cursor, root, pod)

    def lock_sums(self, tables: Sequence[str]) -> None:
        """Lock these sums against other writers until the commit."""
        sums.lock(self.cursor, tables)

    def sum_again(self, table: str, keys: Sequence[Key] | None) -> int:
        """Add up these sums again, or all sums; return how many were wrong."""
        return sums.sum_again(self.cursor, table, keys)


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()
