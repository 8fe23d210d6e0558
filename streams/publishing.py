"""Makes log entries and their manifest from the events of a cut: pure, in bounded memory.

Belongs here: the division of a cut into chunks. Does not belong here: reading the outbox, appending to the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import PropagationError
from contracts.ids import PARTITION_FUNCTION
from streams import codec
from streams.cuts import CODEC, Cut
from streams.log import ChunkManifest, EntryId, LogEntry, Manifest, entry_place


def check_publishable(pod: str, cut: Cut) -> None:
    """Raise PropagationError unless this version computes the cut exactly like the version that registered it."""
    if cut.codec != CODEC or cut.partition_function != PARTITION_FUNCTION:
        raise PropagationError(
            f"Cut {cut.cut} of pod {pod} was registered for {cut.codec} and {cut.partition_function}; this "
            f"version publishes {CODEC} and {PARTITION_FUNCTION}: publish it with the version that registered it."
        )


class CutPublication:
    """Collects one cut's events into entries of `chunk_rows` events per partition, in order of position.

    The bounds of chunks depend only on the cut (events, partition count, chunk rows), not on the batches. At most one
    chunk per partition and one batch are in memory. `previous_epoch` is the epoch of the previous cut (None: there is
    none). If it differs, the pod has a record of the opening; without one, the cut could not have been registered.
    """

    def __init__(self, *, pod: str, cut: Cut, generation: int, previous_epoch: str | None = None) -> None:
        self._pod = pod
        self._follows_epoch = previous_epoch if previous_epoch != cut.epoch else None
        self._cut = cut
        self._generation = generation
        self._waiting: list[list[pa.RecordBatch]] = [[] for _ in range(cut.partition_count)]
        self._rows = [0] * cut.partition_count
        self._chunks: list[list[ChunkManifest]] = [[] for _ in range(cut.partition_count)]
        self._oldest: datetime | None = None

    def add(self, batch: pa.RecordBatch) -> Iterator[list[LogEntry]]:
        """Add a batch with its `partition` column; yield the entries that it completes."""
        oldest = pc.min(batch.column("recorded_at")).as_py()
        if oldest is not None:
            self._oldest = oldest if self._oldest is None else min(self._oldest, oldest)
        for partition, part in codec.split(batch).items():
            self._waiting[partition].append(part)
            self._rows[partition] += part.num_rows
            while self._rows[partition] >= self._cut.chunk_rows:
                yield [self._entry(partition, self._cut.chunk_rows)]

    def finish(self) -> list[LogEntry]:
        """Return the last entries, which have fewer than `chunk_rows` events."""
        return [self._entry(partition, rows) for partition, rows in enumerate(self._rows) if rows]

    def manifest(self, published_at: datetime) -> Manifest:
        """Return the manifest of all entries that were returned so far."""
        return Manifest(
            cut=self._cut.cut,
            epoch=self._cut.epoch,
            snapshot=self._cut.snapshot,
            registered_at=self._cut.registered_at,
            partition_function=self._cut.partition_function,
            chunk_rows=self._cut.chunk_rows,
            codec=self._cut.codec,
            partitions=tuple(tuple(chunks) for chunks in self._chunks),
            oldest_recorded_at=self._oldest,
            generation=self._generation,
            published_at=published_at,
            follows_epoch=self._follows_epoch,
        )

    def _entry(self, partition: int, rows: int) -> LogEntry:
        waiting = pa.Table.from_batches(self._waiting[partition], schema=codec.STORED_SCHEMA)
        rest = waiting.slice(rows)
        self._waiting[partition] = rest.to_batches()
        self._rows[partition] = rest.num_rows
        at = EntryId(
            generation=self._generation, partition=partition, cut=self._cut.cut, chunk=len(self._chunks[partition])
        )
        events = waiting.slice(0, rows).combine_chunks()
        checksum = codec.checksum(events, place=entry_place(self._pod, self._cut.epoch, at))
        self._chunks[partition].append(ChunkManifest(events=rows, checksum=checksum))
        return LogEntry(at=at, epoch=self._cut.epoch, events=rows, checksum=checksum, data=codec.encode(events))
