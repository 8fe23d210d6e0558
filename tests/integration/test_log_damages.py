"""What damages do to a log is done to its server, at the place that they name, and to nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from contracts.errors import LogGapError
from drills.damages import log as damages
from drills.damages.place import Place
from streams import codec
from streams.log import ChunkManifest, EntryId, LogEntry, Manifest, entry_place
from streams.valkey_log import ValkeyLog
from tests.streams_support import MOMENT, stored_events

POD, EPOCH = "pod1", "system.1.1"


def place_of(cut: int, chunk: int = 0) -> EntryId:
    return EntryId(generation=1, partition=1, cut=cut, chunk=chunk)


@dataclass(kw_only=True)
class FakePlace:
    """A pod whose relay publishes a cut with two entries after every second order that is placed."""

    log: ValkeyLog
    settings: Any
    pod: str = POD
    placed: int = 0
    cut: int = 0
    """The newest one, as the pod's database numbers them."""
    tools: Any = field(default_factory=lambda: SimpleNamespace(stopped=lambda worker: nullcontext(True)))

    def lake_cut(self) -> int:
        return 2

    def place_orders(self, *, waits: bool) -> None:
        self.placed += 1
        if self.placed % 2 == 0:
            self.publish()

    def publish(self) -> None:
        self.cut += 1
        cut = self.cut
        events = stored_events(2)
        payloads = pa.array(['{"version":3}'] * 2, events.schema.field("payload").type)
        events = events.set_column(events.schema.get_field_index("payload"), events.schema.field("payload"), payloads)
        sums = [codec.checksum(events, place=entry_place(POD, EPOCH, place_of(cut, chunk))) for chunk in (0, 1)]
        data = codec.encode(events)
        self.log.append(
            POD,
            [
                LogEntry(at=place_of(cut, chunk), epoch=EPOCH, events=2, checksum=checksum, data=data)
                for chunk, checksum in enumerate(sums)
            ],
        )
        manifest = Manifest(
            cut=cut,
            epoch=EPOCH,
            snapshot=f"{cut}:{cut}:",
            registered_at=MOMENT,
            partition_function="f",
            chunk_rows=2,
            codec="c",
            partitions=((), tuple(ChunkManifest(events=2, checksum=checksum) for checksum in sums)),
            oldest_recorded_at=MOMENT,
            generation=1,
            published_at=MOMENT,
        )
        self.log.append_manifest(POD, manifest)


@pytest.fixture
def place(valkey_url: str) -> Iterator[FakePlace]:
    """A pod with three published cuts, of which the lake has read two."""
    with closing(ValkeyLog(valkey_url)) as log:
        made = FakePlace(log=log, settings=SimpleNamespace(log_url=valkey_url))
        for _ in range(3):
            made.publish()
        yield made


def harmed(place: FakePlace) -> Place:
    return cast("Place", place)


def lost(place: FakePlace) -> list[tuple[int, int]]:
    """Return cut and chunk of every entry that a manifest names and the log does not have."""
    found = []
    for manifest in place.log.manifests(POD, 0, limit=100):
        for chunk in range(len(manifest.partitions[1])):
            try:
                place.log.fetch(POD, [place_of(manifest.cut, chunk)])
            except LogGapError:
                found.append((manifest.cut, chunk))
    return found


def test_the_newest_entry_that_the_lake_has_read_is_lost(place: FakePlace) -> None:
    damages.lose_entry(harmed(place))
    assert lost(place) == [(2, 0)]


def test_an_entry_that_nothing_has_read_is_lost(place: FakePlace) -> None:
    damages.lose_unread_entry(harmed(place))
    assert lost(place) == [(4, 1)]


def test_an_entry_that_nothing_has_read_is_altered_and_the_others_stay(place: FakePlace) -> None:
    damages.alter_unread_entry(harmed(place))
    assert lost(place) == []
    read = [codec.decode(one) for one in place.log.fetch(POD, [place_of(3, 1), place_of(4, 0), place_of(4, 1)])]
    assert [set(events["payload"].to_pylist()) for events in read] == [
        {'{"version":3}'},
        {'{"version":3}'},
        {'{"version":13}'},
    ]


def test_a_whole_log_is_lost_and_the_relay_goes_on(place: FakePlace) -> None:
    damages.lose_unread_cuts(harmed(place))
    assert [one.cut for one in place.log.manifests(POD, 0, limit=100)] == [5]
    assert lost(place) == []


def test_a_manifest_in_the_middle_is_lost(place: FakePlace) -> None:
    damages.lose_manifest(harmed(place))
    assert [one.cut for one in place.log.manifests(POD, 0, limit=100)] == [1, 3]
