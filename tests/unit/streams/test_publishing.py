"""Cutting a cut into entries: the same entries however the events arrive."""

from __future__ import annotations

import pyarrow as pa
import pytest

from streams import codec
from streams.cuts import CODEC, Cut
from streams.log import LogEntry, Manifest
from streams.publishing import CutPublication
from tests.streams_support import MOMENT, stored_events

CUT = Cut(
    cut=4, snapshot="10:20:", epoch="e", registered_at=MOMENT, partition_function="md5-32-mod", partition_count=3,
    chunk_rows=7, codec=CODEC,
)  # fmt: skip


def publish(batches: list[pa.RecordBatch]) -> tuple[list[LogEntry], Manifest]:
    publication = CutPublication(pod="pod1", cut=CUT, generation=1)
    entries = [entry for batch in batches for group in publication.add(batch) for entry in group]
    entries += publication.finish()
    ordered = sorted(entries, key=lambda entry: (entry.at.partition, entry.at.chunk))
    return ordered, publication.manifest(MOMENT)


def contents(published: tuple[list[LogEntry], Manifest]) -> object:
    entries, manifest = published
    decoded = [(entry.at, entry.checksum, codec.decode(entry.data).to_pylist()) for entry in entries]
    return decoded, manifest


def batches_of(size: int, count: int = 100) -> list[pa.RecordBatch]:
    events = stored_events(count)
    partitions = pa.array([position * position % 3 for position in range(count)], pa.int32())
    batches: list[pa.RecordBatch] = events.append_column("partition", partitions).to_batches(max_chunksize=size)
    return batches


@pytest.mark.parametrize("size", [1, 6, 7, 50])
def test_entries_and_manifest_do_not_depend_on_the_batches(size: int) -> None:
    assert contents(publish(batches_of(size))) == contents(publish(batches_of(1_000)))


def test_entries_hold_every_event_once_in_chunks_of_the_registered_size() -> None:
    entries, manifest = publish(batches_of(13))
    sizes = [[chunk.events for chunk in chunks] for chunks in manifest.partitions]
    assert sizes == [[7, 7, 7, 7, 6], [7] * 9 + [3], []]
    positions = [position for entry in entries for position in codec.decode(entry.data).column("position").to_pylist()]
    assert sorted(positions) == list(range(1, 101))
    assert [len(entry.checksum) for entry in entries] == [64] * len(entries)


def test_an_empty_cut_has_a_manifest_and_no_entries() -> None:
    entries, manifest = publish([])
    assert entries == []
    assert (manifest.partitions, manifest.events, manifest.oldest_recorded_at) == (((), (), ()), 0, None)
