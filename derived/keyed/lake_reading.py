"""Reading the lake for a rebuild: alone, or once for several rebuilds that run at the same time.

Rebuilds that read together wait for each other before they read. Then one query reads the newest events up to the
lowest of their positions, and each rebuild gets every batch. What is between this and its own position each reads
itself. A rebuild that has failed, or fails while it reads, does not stop the others.

Belongs here: who reads what. Does not belong here: the queries (`derived/lake_reads.py`), what a rebuild writes
(`derived/keyed/projection.py`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from derived.keyed.decoding import COLUMNS
from streams.ahead import PREFETCHED_BATCHES, ahead
from streams.parking import aggregate_keys
from streams.projection import START, Position

if TYPE_CHECKING:
    import duckdb

    from derived.lake_reads import LakeProgress


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The newest events that a rebuild needs: of one pod, up to its position."""

    pod: str
    position: Mapping[int, Position]
    aggregate_types: tuple[str, ...]
    leave_out: tuple[str, ...]
    """Ids of events that are omitted."""
    keys: tuple[str, ...] | None = None
    """Only these aggregates; None: all."""


Batches = Iterator[pa.RecordBatch]


class LakeReading(Protocol):
    """How a rebuild reads the lake. `lake` is the rebuild's own connection."""

    def progress(self, lake: duckdb.DuckDBPyConnection, pod: str) -> LakeProgress:
        """Return the lake's position in a pod."""

    def newest(self, lake: duckdb.DuckDBPyConnection, wanted: Wanted) -> AbstractContextManager[Batches]:
        """Return the newest event of every aggregate; events of other types may be among them.

        `lake` cannot be used for other queries until the context ends.
        """


class ReadingAlone:
    """Reads with the rebuild's own connection."""

    def progress(self, lake: duckdb.DuckDBPyConnection, pod: str) -> LakeProgress:
        """Return the lake's position in a pod."""
        from derived.lake_reads import lake_progress

        return lake_progress(lake, pod)

    @contextmanager
    def newest(self, lake: duckdb.DuckDBPyConnection, wanted: Wanted) -> Iterator[Batches]:
        """Return the newest event of every aggregate."""
        # `closing` also runs after an error: the reading thread must end before its connection is closed.
        with closing(ahead(_read(lake, wanted))) as batches:
            yield batches


@dataclass(kw_only=True, eq=False)
class _Waiting:
    """A rebuild that waits for the common reading, and then takes its batches; None is the end."""

    wanted: Wanted
    through: Mapping[int, Position] = field(default_factory=dict)
    """How far the common reading goes."""
    has_begun: threading.Event = field(default_factory=threading.Event)
    has_left: threading.Event = field(default_factory=threading.Event)
    ready: queue.Queue[pa.RecordBatch | BaseException | None] = field(
        default_factory=lambda: queue.Queue(PREFETCHED_BATCHES)
    )

    def put(self, item: pa.RecordBatch | BaseException | None) -> None:
        """Give the rebuild a batch, the end or an error, unless it has left."""
        while not self.has_left.is_set():
            try:
                self.ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def batches(self) -> Batches:
        """Yield the batches of the common reading; raise its error."""
        while (item := self.ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item


class ReadingTogether:
    """Reads once for several rebuilds of whole views, each in its own thread, which calls `leave` at its end."""

    def __init__(self, open_lake: Callable[[], duckdb.DuckDBPyConnection], rebuilds: int) -> None:
        self._open_lake = open_lake
        self._awaited = rebuilds
        self._waiting: list[_Waiting] = []
        self._progress: dict[str, LakeProgress] = {}
        self._lock = threading.Lock()

    def progress(self, lake: duckdb.DuckDBPyConnection, pod: str) -> LakeProgress:
        """Return the lake's position in a pod: to all rebuilds what the first of them was told."""
        with self._lock:
            if pod not in self._progress:
                self._progress[pod] = ReadingAlone().progress(lake, pod)
            return self._progress[pod]

    @contextmanager
    def newest(self, lake: duckdb.DuckDBPyConnection, wanted: Wanted) -> Iterator[Batches]:
        """Return the newest event of every aggregate, as soon as every rebuild has asked for its events or has left."""
        mine = _Waiting(wanted=wanted)
        with self._lock:
            self._waiting.append(mine)
            self._begin_if_complete()
        try:
            mine.has_begun.wait()
            is_all = mine.through == wanted.position
            later = None if is_all else _read(lake, wanted, after=mine.through).read_all()
            yield _newest_of_both(later, mine.batches())
        finally:
            mine.has_left.set()

    def leave(self) -> None:
        """Say that a rebuild has ended, so that the others do not wait for it."""
        with self._lock:
            self._awaited -= 1
            self._begin_if_complete()

    def _begin_if_complete(self) -> None:
        waiting = [one for one in self._waiting if not one.has_begun.is_set()]
        if len(waiting) < self._awaited or not waiting:
            return
        groups: dict[tuple[str, tuple[str, ...]], list[_Waiting]] = {}
        for one in waiting:
            groups.setdefault((one.wanted.pod, one.wanted.leave_out), []).append(one)
        for group in groups.values():
            common = _common([one.wanted for one in group])
            for one in group:
                one.through = common.position
                one.has_begun.set()
            threading.Thread(target=self._read, args=(group, common), name="reads-together", daemon=True).start()

    def _read(self, group: Sequence[_Waiting], common: Wanted) -> None:
        end: BaseException | None = None
        try:
            with self._open_lake() as lake:
                for batch in _read(lake, common):
                    for one in group:
                        one.put(batch)
                    if all(one.has_left.is_set() for one in group):
                        return
        except BaseException as error:  # the rebuilds raise it
            end = error
        for one in group:
            one.put(end)


def _common(several: Sequence[Wanted]) -> Wanted:
    """Return what all of these need: up to the lowest position in each partition."""
    partitions = {partition for one in several for partition in one.position}
    return replace(
        several[0],
        position={number: min(one.position.get(number, START) for one in several) for number in partitions},
        aggregate_types=tuple(dict.fromkeys(kind for one in several for kind in one.aggregate_types)),
    )


def _newest_of_both(later: pa.Table | None, common: Batches) -> Batches:
    """Yield the later events, and of the common ones those of other aggregates."""
    if later is None or not later.num_rows:
        yield from common
        return
    yield from later.to_batches()
    keys = aggregate_keys(later).combine_chunks()
    for batch in common:
        yield batch.filter(pc.invert(pc.is_in(aggregate_keys(batch), value_set=keys)))


def _read(
    lake: duckdb.DuckDBPyConnection, wanted: Wanted, after: Mapping[int, Position] | None = None
) -> pa.RecordBatchReader:
    from derived.lake_reads import read_events

    return read_events(
        lake,
        wanted.pod,
        wanted.keys,
        wanted.position,
        after=after or {},
        aggregate_types=wanted.aggregate_types,
        columns=COLUMNS,
        is_latest_only=True,
        leave_out=wanted.leave_out,
    )
