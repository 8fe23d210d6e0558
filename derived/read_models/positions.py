"""Positions and parked events of the read models: they change in the same transaction as the rows.

Belongs here: tables `read_models.positions` and `read_models.parked_events`. Does not belong here: the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from contracts.announcements import ANNOUNCE_VIEW, VIEW_WRITER
from contracts.events.envelope import envelope_values
from derived.keyed.store import Standing, Stored
from streams.parking import parked_together
from streams.projection import FencedError, ParkedEvent, Position, Work

Cursor = psycopg.Cursor[tuple[Any, ...]]

ENSURE = """
    insert into read_models.positions (projection, pod, partition, cut, chunk)
    select %s, %s, partition, 0, 0 from unnest(%s::integer[]) as partition
    on conflict do nothing"""
READ = """
    select partition, epoch, cut, chunk from read_models.positions
    where projection = %s and pod = %s order by partition"""
MOVE = """
    update read_models.positions as present
    set epoch = %(epoch)s, data_at = %(data_at)s, cut = moved.cut, chunk = moved.chunk
    from unnest(%(partitions)s::integer[], %(cuts)s::bigint[], %(chunks)s::integer[]) as moved (partition, cut, chunk)
    where present.projection = %(projection)s and present.pod = %(pod)s and present.partition = moved.partition"""
SET_BACK = """
    update read_models.positions as present
    set epoch = earlier.epoch, data_at = earlier.data_at, cut = earlier.cut, chunk = earlier.chunk
    from unnest(%(partitions)s::integer[], %(epochs)s::text[], %(cuts)s::bigint[], %(chunks)s::integer[],
                %(moments)s::timestamptz[]) as earlier (partition, epoch, cut, chunk, data_at)
    where present.projection = %(projection)s and present.pod = %(pod)s and present.partition = earlier.partition"""
# The log delivers these events again; an event that still cannot be applied is parked again.
UNPARK = """
    delete from read_models.parked_events as parked
    using unnest(%(partitions)s::integer[], %(cuts)s::bigint[]) as earlier (partition, cut)
    where parked.projection = %(projection)s and parked.pod = %(pod)s and parked.cut > earlier.cut
      and (parked.event::json ->> 'partition')::integer = earlier.partition"""
PARK = """
    insert into read_models.parked_events
    (projection, pod, aggregate_key, event_id, cut, position, event, error, parked_at)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
RELEASE = "delete from read_models.parked_events where projection = %s and pod = %s and aggregate_key = %s"
PARKED_KEYS = "select distinct aggregate_key from read_models.parked_events where projection = %s and pod = %s"
PARKED_EVENTS = """
    select aggregate_key, event_id, cut, position, event, error, parked_at from read_models.parked_events
    where projection = %(projection)s and pod = %(pod)s
    and (%(keys)s::text[] is null or aggregate_key = any(%(keys)s::text[])) order by cut, position"""


def read_positions(cursor: Cursor, projection: str, pod: str) -> Stored:
    """Return epoch and position of every partition that has a row."""
    return _stored(cursor.execute(READ, [projection, pod]).fetchall())


def lock_positions(cursor: Cursor, projection: str, pod: str, partitions: Sequence[int]) -> Stored:
    """Lock and return all partitions' rows; create those of `partitions` that are missing. Says who writes.

    A caller that applies or rebuilds holds these locks until it commits: one at a time per projection and pod.
    """
    cursor.execute(ANNOUNCE_VIEW, [VIEW_WRITER, [projection]])
    cursor.execute(ENSURE, [projection, pod, sorted(partitions)])
    return _stored(cursor.execute(READ + " for update", [projection, pod]).fetchall())


def move_positions(
    cursor: Cursor, projection: str, pod: str, epoch: str, positions: Mapping[int, Position], data_at: datetime
) -> None:
    """Write new positions; the rows exist and are locked."""
    moved = sorted(positions.items())
    cursor.execute(
        MOVE,
        {
            "projection": projection,
            "pod": pod,
            "epoch": epoch,
            "data_at": data_at,
            "partitions": [partition for partition, _ in moved],
            "cuts": [position.cut for _, position in moved],
            "chunks": [position.chunk for _, position in moved],
        },
    )


def set_back(cursor: Cursor, projection: str, pod: str, standings: Mapping[int, Standing]) -> None:
    """Write earlier positions, and delete the events that were parked after them; the rows exist and are locked."""
    moved = sorted(standings.items())
    values = {
        "projection": projection,
        "pod": pod,
        "partitions": [partition for partition, _ in moved],
        "epochs": [standing.epoch for _, standing in moved],
        "cuts": [standing.position.cut for _, standing in moved],
        "chunks": [standing.position.chunk for _, standing in moved],
        "moments": [standing.data_at for _, standing in moved],
    }
    cursor.execute(SET_BACK, values)
    cursor.execute(UNPARK, values)


def park_and_release(cursor: Cursor, projection: str, work: Work) -> None:
    """Delete the parked events of the released keys, then park the step's new ones.

    Raises FencedError if a released key, or a key that other events wait behind, is not parked any more: another
    process has replayed it.
    """
    for key in work.released:
        if cursor.execute(RELEASE, [projection, work.pod, key]).rowcount == 0:
            raise FencedError(f"The parked events of {key} have been replayed by another.")
    gone = set(work.behind) - parked_keys(cursor, projection, work.pod) if work.behind else None
    if gone:
        raise FencedError(f"The parked events of {min(gone)} have been replayed meanwhile.")
    if work.parked:
        cursor.executemany(PARK, [_parked_row(projection, work.pod, event) for event in work.parked])


def park_rows(cursor: Cursor, projection: str, pod: str, rows: Sequence[Mapping[str, Any]], error: str) -> None:
    """Park an aggregate's events (all envelope columns); the first of them could not be applied because of `error`."""
    now = cursor.execute("select now()").fetchall()[0][0]
    for event in parked_together(rows, error, now):
        cursor.execute(PARK, _parked_row(projection, pod, event))


def parked_keys(cursor: Cursor, projection: str, pod: str) -> frozenset[str]:
    """Return the aggregate keys that have parked events."""
    return frozenset(row[0] for row in cursor.execute(PARKED_KEYS, [projection, pod]).fetchall())


def parked_events(cursor: Cursor, projection: str, pod: str, keys: Collection[str] | None = None) -> list[ParkedEvent]:
    """Return the parked events, of these aggregates or of all, ordered by (cut, position)."""
    chosen = {"projection": projection, "pod": pod, "keys": None if keys is None else [*keys]}
    return [
        ParkedEvent(
            aggregate_key=key,
            event_id=event_id,
            cut=cut,
            position=position,
            event=envelope_values(event),
            error=error,
            parked_at=parked_at,
        )
        for key, event_id, cut, position, event, error, parked_at in cursor.execute(PARKED_EVENTS, chosen)
    ]


def _stored(rows: Sequence[tuple[Any, ...]]) -> Stored:
    return {partition: (epoch, Position(cut=cut, chunk=chunk)) for partition, epoch, cut, chunk in rows}


def _parked_row(projection: str, pod: str, parked: ParkedEvent) -> list[object]:
    return [
        projection,
        pod,
        parked.aggregate_key,
        parked.event_id,
        parked.cut,
        parked.position,
        # A text column cannot hold NUL, but JSON text escapes it.
        msgspec.json.encode(parked.event).decode(),
        parked.error.replace("\x00", ""),
        parked.parked_at,
    ]
