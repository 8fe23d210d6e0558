"""The lake as a projection of the log: every event, once, in `lake.raw.events`.

Belongs here: applying a step to the lake in one DuckLake transaction. Does not belong here: how to connect
(`derived/lake_connection.py`), the tables (`derived/lake_schema.py`), their compaction (`derived/lake_compaction.py`),
queries (`derived/lake_reads.py`). Other copies are rebuilt from the lake; the lake itself is rebuilt by applying the
log again from START.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import PropagationError
from contracts.events.envelope import ENVELOPE_COLUMNS, envelope_values
from derived.dsn import scrub
from derived.lake_connection import DEFAULT_BOUNDS, Bounds, connect_lake, transaction
from derived.lake_epochs import record_opening
from derived.lake_files import is_conflict
from derived.lake_reads import cut_vector, cut_vector_at, has_reached, lake_positions, read_events
from derived.lake_schema import CUTS, EVENTS, PARKED, fence_table, migrate_lake
from derived.step_checks import check_expected, fresh_entries, furthest_epoch
from streams.projection import START, FencedError, ParkedEvent, PoisonEventError, Position, ProjectionState, Work
from streams.refusals import refused

__all__ = [
    "LakeProjection",
    "connect_lake",
    "cut_vector",
    "cut_vector_at",
    "has_reached",
    "lake_positions",
    "migrate_lake",
    "read_events",
]

Connection = duckdb.DuckDBPyConnection

CONTENT_ERRORS = (duckdb.ConstraintException, duckdb.ConversionException, duckdb.OutOfRangeException)
"""Errors of DuckDB about a row that cannot be stored; all others are about files, the catalog or memory."""

EVENT_COLUMNS = ", ".join(f'"{name}"' for name in (*ENVELOPE_COLUMNS, "chunk"))


class LakeProjection:
    """Appends events to the lake; implements `streams.projection.ReplayableProjection`, for any number of threads.

    Two consumers of one pod cannot both commit: each updates the pod's fence, and DuckLake refuses the second commit.
    The connection is opened at first use, and again after an error.
    """

    name = "lake"

    def __init__(self, catalog_dsn: str, data_path: str, *, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._catalog_dsn = catalog_dsn
        self._data_path = data_path
        self._bounds = bounds
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def state(self, pod: str) -> ProjectionState:
        """Return the fence's positions and the parked keys of `pod`."""
        with self._transaction() as cursor:
            fence = _read_fence(cursor, pod)
            parked = cursor.execute(f"select distinct aggregate_key from {PARKED} where pod = ?", [pod]).fetchall()
        return ProjectionState(
            epoch=furthest_epoch(fence),
            positions={partition: position for partition, (_, position) in fence.items() if position != START},
            parked_keys=frozenset(str(row[0]) for row in parked),
        )

    def apply(self, work: Work) -> None:
        """Append the step's events and move the fence in one transaction; FencedError if another consumer was first."""
        try:
            self._apply(work)
        except _RefusedError:
            if poison := self._poison(work):
                raise PoisonEventError.of_all(poison) from None
            raise

    def _apply(self, work: Work) -> None:
        with self._transaction() as cursor:
            fence = _read_fence(cursor, work.pod)
            check_expected(work, fence)
            _move_fence(cursor, work, fence)
            _append_events(cursor, work)
            _park(cursor, work)
            if work.opening is not None:
                record_opening(cursor, work.pod, work.opening)

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return the parked events of `pod`, of these aggregates or of all, ordered by (cut, position)."""
        with self._transaction() as cursor:
            rows = cursor.execute(
                f"""select aggregate_key, event_id, cut, "position", event, error, parked_at from {PARKED}
                    where pod = $pod and ($keys is null or list_contains($keys::varchar[], aggregate_key))
                    order by cut, "position" """,
                {"pod": pod, "keys": None if keys is None else [*keys]},
            ).fetchall()
        return [
            ParkedEvent(
                aggregate_key=row[0],
                event_id=row[1],
                cut=row[2],
                position=row[3],
                event=envelope_values(row[4]),
                error=row[5],
                parked_at=row[6],
            )
            for row in rows
        ]

    def recovery_command(self, pod: str, applied_cut: int) -> str:
        """Return the command for people if the log no longer has the cuts after `applied_cut`."""
        return f"tieout republish {pod} --from-cut {applied_cut + 1}" if applied_cut else "tieout restore-lake"

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _poison(self, work: Work) -> list[PoisonEventError]:
        """Find the events that the lake refuses: write halves of the step, and roll back."""
        tables = [entry.events for entry in fresh_entries(work)]
        events = pa.concat_tables(tables) if tables else pa.table({"event_id": pa.array([], pa.string())})

        def refusal(rows: Sequence[int]) -> str | None:
            some = events.slice(rows[0], len(rows))
            try:
                with self._transaction() as cursor:
                    _insert(cursor, some.append_column("chunk", pa.repeat(pa.scalar(0, pa.int32()), len(rows))), "")
                    raise _UndoneError
            except _RefusedError as error:
                return error.reason
            except _UndoneError:
                return None

        found = refused(range(events.num_rows), refusal)
        ids = events.column("event_id")
        return [PoisonEventError(str(ids[row]), f"the lake cannot store it: {reason}.") for row, reason in found]

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        cursor = self._cursor()
        try:
            with transaction(cursor, self.name):
                yield cursor
        except duckdb.TransactionException as error:
            if not is_conflict(error):
                raise self._failure(error) from None
            raise FencedError("Another consumer has moved the lake on; this step starts over.") from None
        except CONTENT_ERRORS as error:
            raise _RefusedError(scrub(error, self._catalog_dsn)) from None
        except duckdb.Error as error:
            raise self._failure(error) from None
        finally:
            cursor.close()

    def _cursor(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = connect_lake(self._catalog_dsn, self._data_path, bounds=self._bounds)
            return self._connection.cursor()

    def _failure(self, error: duckdb.Error) -> PropagationError:
        # The catalog's server may have been restarted, and DuckDB does not reconnect: open a new connection next time.
        with self._lock:
            self._connection = None
        return PropagationError(f"The lake could not be used: {scrub(error, self._catalog_dsn)}")


class _UndoneError(Exception):
    """Raised to roll back a trial write that only tested whether the lake accepts the rows."""


class _RefusedError(PropagationError):
    """The lake refuses the content of one of the rows."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The lake cannot store one of the events: {reason}")
        self.reason = reason


Fence = Mapping[int, tuple[str | None, Position]]
"""Partition -> (epoch, position)."""


def _read_fence(cursor: Connection, pod: str) -> Fence:
    rows = cursor.execute(f'select "partition", epoch, cut, chunk from {fence_table("lake", pod)}').fetchall()
    return {row[0]: (row[1], Position(cut=row[2], chunk=row[3])) for row in rows}


def _move_fence(cursor: Connection, work: Work, fence: Fence) -> None:
    if not work.positions:
        return
    table = fence_table("lake", work.pod)
    for partition in work.positions.keys() - fence.keys():
        cursor.execute(f"insert into {table} values (?, null, 0, 0, null)", [partition])
    moved = sorted(work.positions.items())
    cursor.execute(
        f"""update {table} as fence
            set epoch = $epoch, cut = moved.cut, chunk = moved.chunk, data_at = $data_at
            from (select unnest($partitions) as "partition", unnest($cuts) as cut, unnest($chunks) as chunk) as moved
            where fence."partition" = moved."partition" """,
        {
            "epoch": work.epoch,
            "data_at": work.data_at,
            "partitions": [partition for partition, _ in moved],
            "cuts": [position.cut for _, position in moved],
            "chunks": [position.chunk for _, position in moved],
        },
    )
    _record_cut(
        cursor, work, {partition: position for partition, (_, position) in fence.items()} | dict(work.positions)
    )


def _record_cut(cursor: Connection, work: Work, after: Mapping[int, Position]) -> None:
    """Record the cut if this step made it complete in all partitions: only then `data_at` is the cut's time."""
    if len(set(after.values())) == 1 and all(position.chunk == 0 for position in after.values()):
        cut = next(iter(after.values())).cut
        if any(expected.cut < cut for expected in work.expected.values()):
            cursor.execute(f"insert into {CUTS} values (?, ?, ?, ?)", [work.pod, work.epoch, cut, work.data_at])


def _append_events(cursor: Connection, work: Work) -> None:
    tables = [
        entry.events.append_column("chunk", pa.repeat(pa.scalar(entry.chunk, pa.int32()), entry.events.num_rows))
        for entry in fresh_entries(work)
    ]
    if tables:
        incoming = pa.concat_tables(tables)
        _insert(cursor, incoming, *_unless_there(cursor, work.pod, incoming))


def _insert(cursor: Connection, events: pa.Table, condition: str, values: Mapping[str, object] | None = None) -> None:
    cursor.register("incoming", events)
    cursor.execute(f"insert into {EVENTS} ({EVENT_COLUMNS}) select {EVENT_COLUMNS} from incoming {condition}", values)
    cursor.unregister("incoming")


def _unless_there(cursor: Connection, pod: str, incoming: pa.Table) -> tuple[str, Mapping[str, object]]:
    """Return a condition that leaves out the events that the lake already has, and its values.

    Normally there are none, and the files' statistics show it without reading them: no file has a cut as high as the
    incoming ones. Ids are compared only after the position was set back, or while a large cut arrives in several steps.
    """
    values = {"pod": pod, "lowest": pc.min(incoming.column("cut")).as_py()}
    standing = f"from {EVENTS} where pod = $pod and cut >= $lowest"
    if not cursor.execute(f"select 1 {standing} limit 1", values).fetchall():
        return "", {}
    # Take events in the order of the log: a step that replays parked events may contain an event twice.
    once = "qualify row_number() over (partition by event_id order by cut, chunk) = 1"
    return f"where event_id not in (select event_id {standing}) {once}", values


def _park(cursor: Connection, work: Work) -> None:
    released, behind = list(work.released), list(work.behind)
    missing = set(released) - _parked_of(cursor, work.pod, released)
    if missing:
        raise FencedError(f"The parked events of {min(missing)} have been replayed by another.")
    if released:
        cursor.execute(
            f"delete from {PARKED} where pod = ? and aggregate_key in (select unnest(?::varchar[]))",
            [work.pod, released],
        )
    missing = set(behind) - _parked_of(cursor, work.pod, behind)
    if missing:
        raise FencedError(f"The parked events of {min(missing)} have been replayed meanwhile.")
    for parked in work.parked:
        cursor.execute(
            f"insert into {PARKED} values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                work.pod,
                parked.aggregate_key,
                parked.event_id,
                parked.cut,
                parked.position,
                msgspec.json.encode(parked.event).decode(),
                parked.error,
                parked.parked_at,
            ],
        )


def _parked_of(cursor: Connection, pod: str, keys: Sequence[str]) -> set[str]:
    """Return the keys among these that have parked events; reads the table once for any number of keys."""
    if not keys:
        return set()
    query = f"""select distinct aggregate_key from {PARKED}
        where pod = ? and aggregate_key in (select unnest(?::varchar[]))"""
    return {str(row[0]) for row in cursor.execute(query, [pod, list(keys)]).fetchall()}
