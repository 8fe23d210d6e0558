"""Positions, parked and skipped events of a pod's index: documents beside the products, in the same commit.

Belongs here: these documents and reading them. Does not belong here: when they change (`derived/keyed/projection.py`),
the writer (`store.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from tantivy import Document, Query, Searcher

from contracts.events.envelope import envelope_values
from contracts.struct_types import make_known
from derived.keyed.store import Standing, Stored
from derived.search import schema
from streams.projection import START, ParkedEvent, Position

POSITION, PARKED, SKIPPED = "#position", "#parked", "#skipped"
"""The kinds of these documents; no type of an aggregate begins with #."""
MANY = 1_000_000
"""More than there can be of them: a search needs a limit."""


class StoredPosition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition's position as the index holds it."""

    partition: int
    epoch: str | None
    cut: int
    chunk: int
    data_at: datetime | None


class StoredParked(msgspec.Struct, frozen=True, kw_only=True):
    """A parked event as the index holds it."""

    aggregate_key: str
    event_id: str
    cut: int
    position: int
    event: msgspec.Raw
    """All columns of its envelope."""
    error: str
    parked_at: datetime


class StoredSkip(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a person decided to skip permanently."""

    event_id: str
    aggregate_key: str
    reason: str
    skipped_by: str
    skipped_at: datetime
    error: str
    event: msgspec.Raw


make_known(list[StoredPosition], StoredParked, StoredSkip)


class Bookkeeping:
    """What a pod's index holds besides rows; a session changes it and writes what it changed."""

    def __init__(self, searcher: Searcher | None) -> None:
        positions = rows_of_kind(searcher, POSITION)
        self.positions: dict[int, StoredPosition] = {
            one.partition: one for row in positions for one in msgspec.json.decode(row, type=list[StoredPosition])
        }
        parked = (_parked(row) for row in rows_of_kind(searcher, PARKED))
        self.parked: dict[str, ParkedEvent] = {one.event_id: one for one in parked}
        skipped = (msgspec.json.decode(row, type=StoredSkip) for row in rows_of_kind(searcher, SKIPPED))
        self.skipped: dict[str, StoredSkip] = {one.event_id: one for one in skipped}

    def stored(self) -> Stored:
        """Return epoch and position of every partition that has one."""
        places = sorted(self.positions.items())
        return {number: (one.epoch, Position(cut=one.cut, chunk=one.chunk)) for number, one in places}

    def ensure(self, partitions: list[int]) -> None:
        """Add the partitions that are missing, at the start."""
        for number in partitions:
            self.positions.setdefault(number, _position(number, None, START, None))

    def move(self, epoch: str | None, moved: Mapping[int, Position], data_at: datetime | None) -> None:
        """Move these partitions."""
        self.positions |= {number: _position(number, epoch, at, data_at) for number, at in moved.items()}

    def set_back(self, standings: Mapping[int, Standing]) -> None:
        """Move these partitions back, and forget what was parked after them: the log delivers it again."""
        for number, one in standings.items():
            self.move(one.epoch, {number: one.position}, one.data_at)
        self.parked = {
            event_id: event
            for event_id, event in self.parked.items()
            if not ((back := standings.get(_partition(event))) and event.cut > back.position.cut)
        }

    def documents(self) -> dict[str, Document]:
        """Return key -> document of everything."""
        positions = _document(POSITION, POSITION, list(self.positions.values()))
        parked = {f"{PARKED}/{name}": _stored_parked(event) for name, event in self.parked.items()}
        skipped = {f"{SKIPPED}/{name}": skip for name, skip in self.skipped.items()}
        kept = {key: _document(PARKED, key, value) for key, value in parked.items()}
        kept |= {key: _document(SKIPPED, key, value) for key, value in skipped.items()}
        return {POSITION: positions, **kept}


def rows_of_kind(searcher: Searcher | None, kind: str) -> list[bytes]:
    """Return the stored rows of all documents of a kind; none without an index."""
    if searcher is None:
        return []
    query = Query.term_query(schema.schema(), schema.KIND, kind, index_option="basic")
    return [row_of(searcher.doc(address)) for _, address in searcher.search(query, limit=MANY, count=False).hits]


def row_of(found: Document) -> bytes:
    """Return the stored row of a document."""
    return bytes(found.get_first(schema.ROW) or b"")


def _document(kind: str, key: str, value: object) -> Document:
    made = Document()
    made.add_text(schema.KEY, key)
    made.add_text(schema.KIND, kind)
    made.add_bytes(schema.ROW, msgspec.json.encode(value))
    return made


def _position(number: int, epoch: str | None, at: Position, data_at: datetime | None) -> StoredPosition:
    return StoredPosition(partition=number, epoch=epoch, cut=at.cut, chunk=at.chunk, data_at=data_at)


def _partition(event: ParkedEvent) -> int:
    partition = event.event["partition"]
    assert isinstance(partition, int)
    return partition


def _stored_parked(event: ParkedEvent) -> StoredParked:
    values = {name: getattr(event, name) for name in StoredParked.__struct_fields__}
    return StoredParked(**{**values, "event": msgspec.Raw(msgspec.json.encode(event.event))})


def _parked(row: bytes) -> ParkedEvent:
    found = msgspec.json.decode(row, type=StoredParked)
    values: dict[str, Any] = msgspec.structs.asdict(found)
    return ParkedEvent(**{**values, "event": envelope_values(bytes(found.event).decode())})
