"""From events to the rows of a keyed copy: decoding, and keeping only the highest version of every key.

Belongs here: pure functions from Arrow batches to `Content`. Does not belong here: writing them (the stores).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from contracts.events.common import AggregateState
from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.events.upcasting import UnreadableEventError, read_state
from derived.keyed.rows import Absent, ChildRow, Content, Root, RootRow
from streams.projection import PoisonEventError


class LatestEvent(NamedTuple):
    """The newest event of one aggregate."""

    merchant_id: str
    aggregate_id: str
    aggregate_version: int
    directory_epoch: int
    event_id: str
    epoch: str
    pod: str
    schema_version: int
    payload: str

    @property
    def order(self) -> tuple[int, int]:
        """Return by what it is newer or older than another event of its aggregate."""
        return self.directory_epoch, self.aggregate_version


COLUMNS = ("aggregate_type", *LatestEvent._fields)
"""The columns of an event that a view needs."""


def latest_events(root: Root, batches: Iterable[pa.Table | pa.RecordBatch]) -> list[LatestEvent]:
    """Return the newest event, by directory epoch and version, of every aggregate of the root's type."""
    latest: dict[tuple[str, str], LatestEvent] = {}
    for batch in batches:
        mine = batch.filter(pc.equal(batch.column("aggregate_type"), root.aggregate_type))
        columns = (mine.column(name).to_pylist() for name in LatestEvent._fields)
        for event in map(LatestEvent._make, zip(*columns, strict=True)):
            present = latest.get(event[:2])
            if present is None or present.order <= event.order:
                latest[event[:2]] = event
    return list(latest.values())


def content(root: Root, events: Iterable[LatestEvent]) -> Content:
    """Return what the view must hold after these events. Raises PoisonEventError at the first that cannot be read."""
    rows: list[RootRow] = []
    children: list[ChildRow] = []
    absent: list[Absent] = []
    for event in events:
        state = decode(root, event)
        try:
            row = root.row(state, event.pod, event.epoch)
            parts = root.child.rows(state) if root.child is not None and row is not None else ()
        except Exception as error:  # pure functions of the state, so any error comes from the state's content
            reason = f"the view cannot be made of it: {type(error).__name__}: {error}."
            raise PoisonEventError(event.event_id, reason) from None
        if row is None:
            absent.append(Absent(event.merchant_id, event.aggregate_id, event.pod, event.epoch, *event.order))
            continue
        rows.append(_placed(row, event))
        children.extend(parts)
    return Content(rows=rows, children=children, absent=absent)


def _placed(row: RootRow, event: LatestEvent) -> RootRow:
    """Return the row with the directory epoch of its event; most events are of the first, which it has."""
    if event.directory_epoch == FIRST_DIRECTORY_EPOCH:
        return row
    return msgspec.structs.replace(row, directory_epoch=event.directory_epoch)


def split_readable(root: Root, events: Iterable[LatestEvent]) -> tuple[list[LatestEvent], list[PoisonEventError]]:
    """Return (the events that can be read, the errors of the others)."""
    readable: list[LatestEvent] = []
    poison: list[PoisonEventError] = []
    for event in events:
        try:
            content(root, [event])
        except PoisonEventError as error:
            poison.append(error)
        else:
            readable.append(event)
    return readable, poison


def decode(root: Root, event: LatestEvent) -> AggregateState:
    """Return the state in an event's payload; PoisonEventError if it cannot be read."""
    if "\\u0000" in event.payload:
        raise PoisonEventError(event.event_id, "its payload contains the character NUL, which PostgreSQL cannot store.")
    try:
        state: AggregateState = read_state(root.state_type, event.schema_version, event.payload)
    except UnreadableEventError as error:
        raise PoisonEventError(event.event_id, f"{error}.") from None
    if (state.merchant_id, state.aggregate_id, state.version) != (
        event.merchant_id,
        event.aggregate_id,
        event.aggregate_version,
    ):
        raise PoisonEventError(event.event_id, "its payload is of another aggregate or version than its envelope.")
    return state
