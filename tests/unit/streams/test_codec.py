"""The log's encoding: exact round trips, and a checksum of content, not of bytes."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from contracts.errors import ManifestMismatchError
from contracts.events.envelope import ENVELOPE_COLUMNS
from streams import codec
from tests.streams_support import stored_events


def test_the_schema_has_the_envelope_s_columns() -> None:
    assert tuple(codec.EVENT_SCHEMA.names) == ENVELOPE_COLUMNS


@pytest.mark.parametrize("count", [0, 1, 7, 500])
def test_decoding_returns_what_was_encoded(count: int) -> None:
    events = stored_events(count)
    assert codec.decode(codec.encode(events)).equals(events)


def test_placing_adds_the_columns_that_the_place_implies() -> None:
    table = codec.placed(stored_events(3), pod="pod1", epoch="e", cut=7, partition=2)
    assert table.schema.equals(codec.EVENT_SCHEMA)
    assert [(row["pod"], row["epoch"], row["cut"], row["partition"]) for row in table.to_pylist()] == [
        ("pod1", "e", 7, 2)
    ] * 3


def test_the_checksum_does_not_depend_on_how_the_events_are_held() -> None:
    events = stored_events(100)
    padded = pa.concat_tables([stored_events(10, seed=2), events, stored_events(5, seed=3)]).slice(10, 100)
    chunked = pa.concat_tables([events.slice(0, 33), events.slice(33)])
    decoded = codec.decode(codec.encode(events))
    sums = {codec.checksum(table, place="p") for table in (events, padded, padded.combine_chunks(), chunked, decoded)}
    assert len(sums) == 1


@pytest.mark.parametrize("column", codec.STORED_SCHEMA.names)
def test_the_checksum_changes_with_any_value(column: str) -> None:
    events = stored_events(20)
    index = codec.STORED_SCHEMA.names.index(column)
    kind = codec.STORED_SCHEMA.types[index]
    values = events.column(column).to_pylist()
    values[11] = "another" if pa.types.is_string(kind) else pa.scalar(4_711, pa.int64()).cast(kind).as_py()
    changed = events.set_column(index, codec.STORED_SCHEMA.field(index), pa.array(values, kind))
    assert codec.checksum(changed, place="p") != codec.checksum(events, place="p")


def test_the_checksum_tells_a_null_from_an_empty_text_and_shifted_texts_apart() -> None:
    def with_texts(first: str | None, second: str | None) -> pa.Table:
        events = stored_events(2)
        index = codec.STORED_SCHEMA.names.index("traceparent")
        return events.set_column(index, codec.STORED_SCHEMA.field(index), pa.array([first, second], pa.string()))

    pairs = [("", None), (None, ""), ("", ""), (None, None), ("ab", "c"), ("a", "bc")]
    assert len({codec.checksum(with_texts(*pair), place="p") for pair in pairs}) == len(pairs)


def test_the_checksum_is_bound_to_the_place() -> None:
    events = stored_events(4)
    assert codec.checksum(events, place="pod1/e/0/1/0") != codec.checksum(events, place="pod1/e/0/2/0")


def test_bytes_that_are_no_entry_are_refused() -> None:
    data = codec.encode(stored_events(5))
    with pytest.raises(ManifestMismatchError):
        codec.decode(data[: len(data) // 2])
    with pytest.raises(ManifestMismatchError):
        codec.decode(b"nothing of the kind")


BEFORE_DIRECTORY_EPOCHS = {
    "checksum": "a9345b82611d2c7359e209e7bdd4bea31887c009f976eafa985664941b4fea1d",
    "bytes": "6f07a333a98ce3268218bcf73819525c41624fb9e3f42d3942eb575fcaa3c1c4",
}
"""What the last version without the column made of these events: of twenty of them, and of three."""


def test_entries_from_before_directory_epochs_keep_their_bytes_and_their_checksum() -> None:
    assert codec.checksum(stored_events(20), place="pod1/e/0/1/0") == BEFORE_DIRECTORY_EPOCHS["checksum"]
    events = stored_events(3)
    data = codec.encode(events)
    assert pa.ipc.open_stream(data).schema.equals(codec.UNSAID_SCHEMA)
    assert codec.decode(data).equals(events) and codec.decode(data).column("directory_epoch").to_pylist() == [1] * 3
    without = pa.BufferOutputStream()
    with pa.ipc.new_stream(without, codec.UNSAID_SCHEMA) as writer:
        writer.write_table(events.drop_columns(["directory_epoch"]).combine_chunks())
    assert hashlib.sha256(without.getvalue().to_pybytes()).hexdigest() == BEFORE_DIRECTORY_EPOCHS["bytes"]
    assert data == without.getvalue().to_pybytes()


@pytest.mark.parametrize("epochs", [[2, 2, 2], [1, 2, 1]])
def test_an_entry_says_the_directory_epoch_of_who_has_moved(epochs: list[int]) -> None:
    index, events = codec.STORED_SCHEMA.names.index("directory_epoch"), stored_events(3)
    moved = events.set_column(index, codec.STORED_SCHEMA.field(index), pa.array(epochs, pa.int64()))
    assert codec.decode(codec.encode(moved)).equals(moved)
    assert codec.checksum(moved, place="p") != codec.checksum(events, place="p")


def test_splitting_keeps_every_event_once_and_in_order() -> None:
    events = stored_events(50)
    partitions = [position % 3 for position in events.column("position").to_pylist()]
    batch = events.append_column("partition", pa.array(partitions, pa.int32())).to_batches()[0]
    parts = codec.split(batch)
    assert {partition: part.column("position").to_pylist() for partition, part in parts.items()} == {
        partition: [position for position in range(1, 51) if position % 3 == partition] for partition in range(3)
    }
