"""The store of the read models: one PostgreSQL transaction with rows, parked events and positions in it.

Belongs here: connections, transactions and their errors; which statement answers what the port asks. Does not belong
here: the statements (`tables.py`, `positions.py`, `skipped.py`, `sums.py`), when they are asked
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
from derived.read_models import positions, skipped, sums, tables
from derived.read_models.refusals import refused_events
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
    """The tables of one read model; any number of threads may use it, each has a connection of its own."""

    def __init__(self, *, name: str, roots: Sequence[Root], dsn: str) -> None:
        self._name = name
        self._roots = tuple(roots)
        self._dsn = dsn
        self._mine = threading.local()
        self._opened: list[Connection] = []
        weakref.finalize(self, _close_all, self._opened)

    @contextmanager
    def transaction(self) -> Iterator[PostgresSession]:
        """Begin; commit at the end, or keep nothing after an error.

        Raises RefusedContentError where a row cannot be stored, PropagationError where the database cannot be used.
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
        """Read as of one moment."""
        with self.transaction() as session:
            session.cursor.execute("set transaction isolation level repeatable read, read only")
            yield session

    @contextmanager
    def trial(self) -> Iterator[PostgresSession]:
        """Begin; keep nothing whatever happens."""
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
                tables.prepare(cursor, self._roots)
            self._mine.connection = connection
        return connection


class PostgresSession:
    """One transaction, in behalf of one read model; each method does what the port says of it."""

    def __init__(self, name: str, cursor: Cursor, clean: Callable[[Exception], str]) -> None:
        self._name = name
        self.cursor = cursor
        self._clean = clean

    def positions(self, pod: str) -> Stored:
        """Return epoch and position of every partition that has one."""
        return positions.read_positions(self.cursor, self._name, pod)

    def lock_positions(self, pod: str, partitions: Sequence[int]) -> Stored:
        """Return them, those of `partitions` made at the start where they are missing, and keep all others off."""
        return positions.lock_positions(self.cursor, self._name, pod, partitions)

    def move_positions(self, pod: str, epoch: str, moved: Mapping[int, Position], data_at: datetime) -> None:
        """Write new positions; they are locked."""
        positions.move_positions(self.cursor, self._name, pod, epoch, moved, data_at)

    def set_back(self, pod: str, standings: Mapping[int, Standing]) -> None:
        """Write earlier positions, and forget what was parked after them; they are locked."""
        positions.set_back(self.cursor, self._name, pod, standings)

    def parked_keys(self, pod: str) -> frozenset[str]:
        """Return the aggregate keys that have parked events."""
        return positions.parked_keys(self.cursor, self._name, pod)

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return what is parked, of these aggregates or of all, ordered by (cut, position)."""
        return positions.parked_events(self.cursor, self._name, pod, keys)

    def park_and_release(self, work: Work) -> None:
        """Take a step's released keys out of the parking lot, then put its parked events in."""
        positions.park_and_release(self.cursor, self._name, work)

    def park(self, pod: str, key: str, rows: Sequence[Mapping[str, Any]], error: str) -> None:
        """Park an aggregate's events, of which the first cannot be applied because of `error`."""
        positions.park_rows(self.cursor, self._name, pod, key, rows, error)

    def skip(self, pod: str, event_id: str, *, reason: str, by: str) -> None:
        """Pass over a parked event for good."""
        skipped.skip(self.cursor, self._name, pod, event_id, reason=reason, by=by)

    def skipped_ids(self, pod: str) -> Sequence[str]:
        """Return the ids of the events that are passed over."""
        return skipped.skipped_ids(self.cursor, self._name, pod)

    def write(self, root: Root, content: Content) -> None:
        """Write rows that are newer than what is there."""
        tables.write(self.cursor, root, content)

    def insert(self, root: Root, content: Content) -> bool:
        """Write rows whose keys have none; False, and nothing written, where one has, or cannot be stored."""
        return tables.insert(self.cursor, root, content)

    def write_or_refuse(self, root: Root, events: Sequence[LatestEvent]) -> list[PoisonEventError]:
        """Write the events that the database takes; return the others, with its reasons."""
        return refused_events(self.cursor, root, events, self._clean)

    def delete(self, root: Root, keys: Sequence[Key], pod: str) -> int:
        """Delete what a pod has put there of these aggregates; return the number of root rows."""
        return tables.delete_keys(self.cursor, root, keys, pod)

    def delete_pod(self, root: Root, pod: str, *, except_keys: Sequence[Key]) -> int:
        """Delete everything of a pod but `except_keys`; return the number of root rows."""
        return tables.delete_pod(self.cursor, root, pod, except_keys=except_keys)

    def pods_of(self, root: Root, keys: Sequence[Key]) -> Mapping[str, set[Key]]:
        """Return which of these aggregates have a row, by the pod that it says it is of."""
        return tables.by_pod(self.cursor, root, keys)

    def digests(self, root: Root, keys: Sequence[Key]) -> set[tuple[str, ...]]:
        """Return what is stored of these aggregates: table, key and a digest of the rows."""
        return tables.digests(self.cursor, root, keys)

    def digest_of_pod(self, root: Root, pod: str) -> object:
        """Return what tells a pod's rows from all others, whatever their order."""
        return tables.digest_of_pod(self.cursor, root, pod)

    def lock_sums(self, tables: Sequence[str]) -> None:
        """Keep all others from changing these sums until the commit."""
        sums.lock(self.cursor, tables)

    def sum_again(self, table: str, keys: Sequence[Key] | None) -> int:
        """Make sums what the rows add up to: those of these keys, or all; return how many were other ones."""
        return sums.sum_again(self.cursor, table, keys)


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()
