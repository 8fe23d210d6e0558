"""A read model as a projection of the log: `apply` from the log and `rebuild` from the lake, side by side.

Belongs here: one PostgreSQL transaction with rows, parked events and positions in it, for any read model. Does not
belong here: which tables a model has (modules named after it).
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import PropagationError
from contracts.ids import aggregate_key
from contracts.settings import Settings
from contracts.text import counted
from derived.dsn import described, scrub
from derived.postgres_errors import is_of_content
from derived.read_models import tables
from derived.read_models.decoding import COLUMNS, LatestEvent, content, latest_events, split_readable
from derived.read_models.epochs import earlier_standings
from derived.read_models.positions import (
    key_of_row,
    lock_positions,
    move_positions,
    park_and_release,
    park_rows,
    parked_events,
    parked_keys,
    read_positions,
    set_back,
)
from derived.read_models.rebuilding import Rebuilt
from derived.read_models.refusals import refused_events
from derived.read_models.skipped import skip, skipped_ids
from derived.read_models.strangers import delete_strangers
from derived.read_models.tables import Root
from derived.steps import check_expected, fresh_entries, furthest_epoch
from streams.ahead import ahead
from streams.parking import aggregate_keys
from streams.projection import (
    START,
    EpochOpening,
    ParkedEvent,
    PoisonEventError,
    Position,
    ProjectionState,
    Work,
)

if TYPE_CHECKING:
    import duckdb

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]

POLL_SECONDS = 0.2


class ReadModel:
    """A projection into tables of the read models' database; any number of threads may use it.

    `open_lake` gives a connection to the lake; only rebuilding needs it.
    """

    def __init__(
        self, *, name: str, roots: Sequence[Root], dsn: str, open_lake: Callable[[], duckdb.DuckDBPyConnection]
    ) -> None:
        self.name = name
        self._roots = {root.aggregate_type: root for root in roots}
        self._dsn = dsn
        self._open_lake = open_lake
        self._mine = threading.local()
        self._opened: list[Connection] = []
        weakref.finalize(self, _close_all, self._opened)

    def state(self, pod: str) -> ProjectionState:
        """Return positions and parked keys of `pod`, both from one snapshot."""
        with self._transaction() as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
            stored = read_positions(cursor, self.name, pod)
            keys = parked_keys(cursor, self.name, pod)
        positions = {partition: position for partition, (_, position) in stored.items() if position != START}
        return ProjectionState(epoch=furthest_epoch(stored), positions=positions, parked_keys=keys)

    def apply(self, work: Work) -> None:
        """Apply one step: rows guarded by their version, parked events and positions, in one commit."""
        try:
            with self._transaction() as cursor:
                check_expected(work, lock_positions(cursor, self.name, work.pod, list(work.positions)))
                self._write(cursor, [entry.events for entry in fresh_entries(work)])
                park_and_release(cursor, self.name, work)
                move_positions(cursor, self.name, work.pod, work.epoch, work.positions, work.data_at)
        except (PoisonEventError, psycopg.Error, UnicodeError) as error:
            if poison := self._poison(work):
                raise PoisonEventError.of_all(poison) from None
            raise PropagationError(f"{self.name}: {scrub(error, self._dsn)}") from None

    def rebuild(self, pod: str, keys: Sequence[str], *, deadline_seconds: float = 60.0) -> Rebuilt:
        """Make the rows of these aggregate keys what the lake says as of the view's own position, whatever is there.

        Holds the position while it works, so it never races `apply`. Keys that the lake does not know lose their rows.
        Raises PropagationError when the lake does not reach the position in time; then nothing was changed.
        """
        with self._transaction() as cursor:
            position = _positions(lock_positions(cursor, self.name, pod, []))
            parked = parked_keys(cursor, self.name, pod)
            wanted = sorted(set(keys) - parked)
            kinds = self._by_root(wanted)
            stood = {digest for root, pairs in kinds for digest in tables.digests(cursor, root, pairs)}
            before = sum(tables.delete_keys(cursor, root, pairs, pod) for root, pairs in kinds)
            with self._lake_at(pod, position, deadline_seconds) as lake:
                before += delete_strangers(cursor, self.name, lake, kinds)
                aggregates = self._write_from_lake(cursor, lake, pod, position, wanted, frozenset())
            stands = {digest for root, pairs in kinds for digest in tables.digests(cursor, root, pairs)}
        return Rebuilt(
            aggregates=aggregates,
            rows_before=before,
            skipped_keys=tuple(sorted(set(keys) & parked)),
            position=position,
            changed=len({digest[1:3] for digest in stood ^ stands}),
        )

    def rebuild_all(
        self,
        pod: str,
        *,
        is_lake_position_taken: bool = False,
        is_change_told: bool = False,
        deadline_seconds: float = 60.0,
    ) -> Rebuilt:
        """Make everything of `pod` what the lake says, as of the view's own position; parked keys are left alone.

        With `is_lake_position_taken` the view first takes over the lake's position: for a store that was lost, or
        that is further behind than the log reaches back. Refused (PropagationError) while keys are parked: their
        events would be passed over.
        """
        with self._transaction() as cursor:
            stored: Mapping[int, Position] = _positions(lock_positions(cursor, self.name, pod, []))
            parked = parked_keys(cursor, self.name, pod)
            position = self._take_lake_position(cursor, pod, stored, parked) if is_lake_position_taken else stored
            stood = (stored, self._digest_of_pod(cursor, pod)) if is_change_told else None
            before = 0
            for root in self._roots.values():
                kept = [_key_pair(key) for key in parked if _type_of(key) == root.aggregate_type]
                before += tables.delete_pod(cursor, root, pod, except_keys=kept)
            with self._lake_at(pod, position, deadline_seconds) as lake:
                aggregates = self._write_from_lake(cursor, lake, pod, position, None, parked)
            stands = (position, self._digest_of_pod(cursor, pod)) if is_change_told else None
        return Rebuilt(
            aggregates=aggregates,
            rows_before=before,
            skipped_keys=tuple(sorted(parked)),
            position=position,
            changed=None if not is_change_told else 0 if stood == stands else max(before, aggregates),
        )

    def _by_root(self, keys: Sequence[str]) -> list[tuple[Root, list[tuple[str, str]]]]:
        groups = groupby(sorted(keys, key=_type_of), key=_type_of)
        return [(self._roots[kind], [_key_pair(key) for key in group]) for kind, group in groups if kind in self._roots]

    def _digest_of_pod(self, cursor: Cursor, pod: str) -> tuple[object, ...]:
        return tuple(tables.digest_of_pod(cursor, root, pod) for root in self._roots.values())

    def take_back(self, pod: str, opening: EpochOpening, *, base_at: datetime | None) -> int | None:
        """Make everything of `pod` what the lake says at the opening's base; return the root rows, None if none was.

        The lake has been taken back before; where it is behind the base, the view goes back as far. A view that is not
        beyond the base keeps its rows. `base_at` is when the base cut was registered.
        """
        with self._transaction() as cursor, self._open_lake() as lake:
            stored = lock_positions(cursor, self.name, pod, [])
            earlier = earlier_standings(stored, lake, pod, opening, base_at)
            set_back(cursor, self.name, pod, earlier)
            if not any(stored[partition][1] > item.position for partition, item in earlier.items()):
                return None
            parked = parked_keys(cursor, self.name, pod)
            for root in self._roots.values():
                kept = [_key_pair(key) for key in parked if _type_of(key) == root.aggregate_type]
                tables.delete_pod(cursor, root, pod, except_keys=kept)
            position = _positions(read_positions(cursor, self.name, pod))
            return self._write_from_lake(cursor, lake, pod, position, None, parked)

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return what is parked of `pod`, of these aggregates or of all, ordered by (cut, position)."""
        with self._transaction() as cursor:
            return parked_events(cursor, self.name, pod, keys)

    def skip(self, pod: str, event_id: str, *, reason: str, by: str) -> None:
        """Pass over a parked event for good, as somebody decided; NotFoundError when it is parked no more."""
        with self._transaction() as cursor:
            lock_positions(cursor, self.name, pod, [])
            skip(cursor, self.name, pod, event_id, reason=reason, by=by)

    def recovery_command(self, pod: str, applied_cut: int) -> str:
        """Return what a person runs when the log no longer has what comes after `applied_cut`: the lake has it."""
        return f"tieout rebuild {self.name} --pod {pod}"

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        _close_all(self._opened)

    def _write(self, cursor: Cursor, batches: Sequence[pa.Table | pa.RecordBatch]) -> int:
        aggregates = 0
        for root in self._roots.values():
            events = latest_events(root, batches)
            if events:
                tables.write(cursor, root, content(root, events))
            aggregates += len(events)
        return aggregates

    def _write_from_lake(
        self,
        cursor: Cursor,
        lake: duckdb.DuckDBPyConnection,
        pod: str,
        position: Mapping[int, Position],
        keys: Sequence[str] | None,
        except_keys: frozenset[str],
    ) -> int:
        from derived.lake_reads import read_events

        aggregates, unreadable = 0, list[str]()
        types, passed = tuple(self._roots), skipped_ids(cursor, self.name, pod)
        batches = read_events(
            lake, pod, keys, position, aggregate_types=types, columns=COLUMNS, is_latest_only=True, leave_out=passed
        )
        try:
            # Closed whatever happens: the thread that reads must end before its connection does.
            with closing(ahead(batches)) as read:
                for batch, root in ((batch, root) for batch in read for root in self._roots.values()):
                    events = latest_events(root, [_without(batch, except_keys)])
                    aggregates += len(events)
                    unreadable += self._write_readable(cursor, root, events)
        except (psycopg.Error, UnicodeError) as error:
            raise PropagationError(f"{self.name} cannot store what the lake has: {scrub(error, self._dsn)}") from None
        if unreadable:
            self._park_unreadable(
                cursor, read_events(lake, pod, unreadable, position, leave_out=passed).read_all(), pod
            )
        return aggregates

    def _write_readable(self, cursor: Cursor, root: Root, events: Sequence[LatestEvent]) -> list[str]:
        """Write the events that can be read and stored; return the aggregate keys of the others."""
        try:
            readable, poison = events, list[PoisonEventError]()
            known = content(root, events)
        except PoisonEventError:
            readable, poison = split_readable(root, events)
            known = content(root, readable)
        # Whatever was there of these keys was deleted before, so a conflict is with a row of another pod.
        if not tables.insert(cursor, root, known):
            poison += refused_events(cursor, root, readable, self._clean)
        bad = {one.event_id for one in poison}
        return [
            aggregate_key(event.merchant_id, root.aggregate_type, event.aggregate_id)
            for event in events
            if event.event_id in bad
        ]

    def _park_unreadable(self, cursor: Cursor, history: pa.Table, pod: str) -> None:
        """Do for keys that end in an unreadable event what following the log would have done: keep the newest state
        before the first such event, and park the rest.
        """
        names = ("merchant_id", "aggregate_id", "directory_epoch", "aggregate_version")
        order = [(name, "ascending") for name in names]
        for key, group in groupby(history.sort_by(order).to_pylist(), key=key_of_row):
            rows, root = list(group), self._roots[_type_of(key)]
            events = [LatestEvent._make(row[name] for name in LatestEvent._fields) for row in rows]
            # Each event that can be stored is: the newest of them before the first that cannot stays.
            found = (self._poison_of(cursor, root, [event]) for event in events)
            first, poison = next((index, one) for index, one in enumerate(found) if one)
            park_rows(cursor, self.name, pod, key, rows[first:], str(poison[0]))

    @contextmanager
    def _lake_at(
        self, pod: str, position: Mapping[int, Position], deadline_seconds: float
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        from derived.lake_reads import has_reached

        deadline = time.monotonic() + deadline_seconds
        with self._open_lake() as lake:
            while not has_reached(lake, pod, position):
                if time.monotonic() > deadline:
                    raise PropagationError(
                        f"The lake did not reach the position of {self.name} in pod {pod} within "
                        f"{deadline_seconds:g} s; nothing was rebuilt. Does the lake's worker run (`tieout status`)?"
                    )
                time.sleep(POLL_SECONDS)
            yield lake

    def _take_lake_position(
        self, cursor: Cursor, pod: str, position: Mapping[int, Position], parked: frozenset[str]
    ) -> Mapping[int, Position]:
        from derived.lake_reads import lake_progress

        if parked:
            raise PropagationError(
                f"{self.name} has {counted(len(parked), 'parked aggregate')} of pod {pod}; replay them "
                f"(`tieout parked retry {self.name}`) before it takes the lake's position."
            )
        with self._open_lake() as lake:
            progress = lake_progress(lake, pod)
        if progress.epoch is None or progress.data_at is None:
            return position
        lock_positions(cursor, self.name, pod, list(progress.positions))
        move_positions(cursor, self.name, pod, progress.epoch, progress.positions, progress.data_at)
        return progress.positions

    def _poison(self, work: Work) -> list[PoisonEventError]:
        """Find the events that cannot be read or that the database refuses, by writing halves and keeping nothing."""
        entries = [entry.events for entry in fresh_entries(work)]
        found: list[PoisonEventError] = []
        with self._transaction() as cursor, cursor.connection.transaction(force_rollback=True):
            for root in self._roots.values():
                found += self._poison_of(cursor, root, latest_events(root, entries))
        return found

    def _poison_of(self, cursor: Cursor, root: Root, events: Sequence[LatestEvent]) -> list[PoisonEventError]:
        readable, poison = split_readable(root, events)
        return [*poison, *refused_events(cursor, root, readable, self._clean)]

    def _clean(self, error: Exception) -> str:
        return scrub(error, self._dsn)

    @contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        try:
            connection = self._connection()
            with connection.transaction(), connection.cursor() as cursor:
                yield cursor
        except psycopg.Error as error:
            if is_of_content(error):
                raise
            where = described(self._dsn)
            raise PropagationError(f"The read models ({where}) could not be used: {scrub(error, self._dsn)}") from None

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None or connection.closed or connection.broken:
            connection = psycopg.connect(self._dsn, autocommit=True)
            self._opened[:] = [other for other in self._opened if not other.closed] + [connection]
            with connection.cursor() as cursor:
                tables.prepare(cursor, self._roots.values())
            self._mine.connection = connection
        return connection


def lake_opener(settings: Settings) -> Callable[[], duckdb.DuckDBPyConnection]:
    """Return a function that opens the lake for reading; DuckDB is loaded when it is called, workers do without."""

    def open_lake() -> duckdb.DuckDBPyConnection:
        from derived.lake_connection import open_lake

        return open_lake(settings, read_only=True)

    return open_lake


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()


def _positions(stored: Mapping[int, tuple[str | None, Position]]) -> dict[int, Position]:
    return {partition: position for partition, (_, position) in stored.items()}


def _type_of(key: str) -> str:
    return key.split("/", 2)[1]


def _key_pair(key: str) -> tuple[str, str]:
    merchant_id, _, aggregate_id = key.split("/", 2)
    return merchant_id, aggregate_id


def _without(batch: pa.RecordBatch, keys: frozenset[str]) -> pa.RecordBatch:
    if not keys:
        return batch
    is_kept = pc.invert(pc.is_in(aggregate_keys(batch), value_set=pa.array(sorted(keys), pa.string())))
    return batch.filter(is_kept)
