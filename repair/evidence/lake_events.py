"""Compares the lake's events with the published ones, from the outbox, and for pruned cuts from the verified backup.

Belongs here: which events in the lake are missing, duplicated, altered, or were never sent. Does not belong here: what
is done about them (`repair/plan.py`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import pyarrow as pa

from contracts.events.upcasting import UnreadableEventError, newest_payload
from contracts.ids import aggregate_key
from contracts.settings import PodSettings, Settings
from derived.lake_backup import file_rows, verified_chains
from derived.lake_connection import bounds_of, open_beside
from derived.lake_reads import lake_positions, lake_progress, recorded_cut
from derived.lake_schema import EVENTS, PARKED
from repair.evidence.wrong_cuts import logged_events
from repair.values import DamageKind, EventDamage, Source
from streams.log import first_kept_cut
from streams.logs import build_log
from streams.projection import START, Position
from streams.reissue import REISSUED_SCHEMA, events_of_aggregates, events_of_cuts, newest_cut, unpruned_after

COLUMNS = ", ".join(f'events."{name}"' for name in REISSUED_SCHEMA.names)
CHOSEN = """
    events.pod = $pod and (
        list_contains($cuts::bigint[], events.cut)
        or events.event_id in (select unnest($event_ids::varchar[]))
        or (events.merchant_id, events.aggregate_type, events.aggregate_id) in
           (select (unnest($merchants::varchar[]), unnest($types::varchar[]), unnest($ids::varchar[])))
    )"""
# The positions are found first, without payloads: then only the row groups are decoded that have one of them.
SELECTED = f"""
    select {COLUMNS} from {{source}} as events
    where events."position" in (select events."position" from {{source}} as events where {CHOSEN}) and {CHOSEN}
"""
PARKED_IDS = f"select event_id from {PARKED} where pod = ?"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event in one store."""

    event_id: str
    aggregate_key: str
    version: int
    directory_epoch: int
    cut: int
    digest: str
    """Hash of all its columns."""

    @property
    def order(self) -> tuple[int, int]:
        """What is higher for the newer one of two events of an aggregate, over all pods."""
        return self.directory_epoch, self.version


Newest = tuple[tuple[int, int], str]
"""An event's directory epoch and version, and its payload."""


@dataclass(frozen=True, kw_only=True)
class LakeFindings:
    """The damages of the lake's events, and the events of all stores."""

    base_cut: int
    lake_cut: int
    """The cut up to which the lake is complete; `reset_cut` when its position is above every cut."""
    reset_cut: int | None
    """The cut to which the lake's position must be reset, when it is above the pod's newest cut; None: it is not."""
    damages: tuple[EventDamage, ...]
    known: tuple[Event, ...]
    """Every event that any of the stores has, once."""
    newest: Mapping[str, Newest] = field(default_factory=dict)
    """Aggregate key -> its newest event in the backup, or else in the lake."""

    @property
    def damaged_keys(self) -> frozenset[str]:
        """The aggregates of the damages."""
        return frozenset(damage.aggregate_key for damage in self.damages)


@dataclass(kw_only=True)
class _Side:
    """Collects the events of one store while they are read."""

    events: dict[str, Event] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)
    digests: dict[str, set[str]] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Event id -> the aggregates that its rows name."""
    newest: dict[str, Newest] = field(default_factory=dict)

    def take(self, row: dict[str, Any]) -> None:
        event = Event(
            event_id=row["event_id"],
            aggregate_key=aggregate_key(row["merchant_id"], row["aggregate_type"], row["aggregate_id"]),
            version=row["aggregate_version"],
            directory_epoch=row["directory_epoch"],
            cut=row["cut"],
            digest=digest(row),
        )
        self.events.setdefault(event.event_id, event)
        self.copies[event.event_id] += 1
        self.digests.setdefault(event.event_id, set()).add(event.digest)
        self.keys.setdefault(event.event_id, set()).add(event.aggregate_key)
        if event.order >= self.newest.get(event.aggregate_key, ((0, 0), ""))[0]:
            self.newest[event.aggregate_key] = (event.order, readable_payload(row))

    def take_all(
        self, connection: duckdb.DuckDBPyConnection, query: str, bound: dict[str, Any], through_cut: int | None = None
    ) -> None:
        for batch in connection.execute(query, bound).to_arrow_reader(10_000):
            for row in _rows(pa.Table.from_batches([batch]).cast(REISSUED_SCHEMA)):
                if through_cut is None or row["cut"] <= through_cut:
                    self.take(row)


def readable_payload(row: Mapping[str, Any]) -> str:
    """Return an event's payload in the newest schema version, or as stored when it cannot be converted."""
    try:
        return newest_payload(row["aggregate_type"], row["schema_version"], row["payload"])
    except UnreadableEventError:
        return str(row["payload"])


def digest(row: dict[str, Any]) -> str:
    """Return a hash of an event's columns; equal content has the same hash in every store."""
    text = "\x1f".join("" if row[name] is None else f"{name}={row[name]}" for name in REISSUED_SCHEMA.names)
    return hashlib.sha256(text.encode()).hexdigest()


def look_at_lake(
    lake: duckdb.DuckDBPyConnection, settings: Settings, pod: PodSettings, keys: Collection[str], cuts: Collection[int]
) -> LakeFindings:
    """Return the damages of the lake's events of these aggregates, and of all events of these cuts."""
    reached = lake_positions(lake, pod.pod)
    base = unpruned_after(pod)
    sources = {Source.OUTBOX: _outbox(pod, keys, [cut for cut in cuts if cut > base], reached)}
    backup, backed_up_cut = _backup(lake, settings, pod.pod, keys, cuts, base)
    sources[Source.BACKUP] = backup
    # Also by event id, because a row whose key was altered is not found by the key.
    held = _lake(lake, pod.pod, keys, cuts, [event for side in sources.values() for event in side.events])
    parked = {str(row[0]) for row in lake.execute(PARKED_IDS, [pod.pod]).fetchall()}
    # The outbox may have been pruned further meanwhile; events that pruning deleted prove nothing about the lake.
    base_after = unpruned_after(pod)
    damages = [
        *_disputed(settings, pod, held, _not_as_sent(pod.pod, sources, held, parked)),
        *_not_sent(pod.pod, sources, held, base_after, backed_up_cut if base_after == base else 0),
    ]
    known = {**held.events, **backup.events, **sources[Source.OUTBOX].events}
    reset_cut = _reset_cut(lake, settings, pod, reached)
    lake_cut = min((position.cut for position in reached.values()), default=0)
    return LakeFindings(
        base_cut=base_after,
        lake_cut=lake_cut if reset_cut is None else reset_cut,
        reset_cut=reset_cut,
        damages=tuple(sorted(damages, key=lambda item: (item.cut, item.event_id))),
        known=tuple(known.values()),
        newest={**held.newest, **backup.newest},
    )


def _reset_cut(
    lake: duckdb.DuckDBPyConnection, settings: Settings, pod: PodSettings, reached: Mapping[int, Position]
) -> int | None:
    """Return the cut to reset the lake's position to; None when the position is not above the pod's newest cut.

    It is the last cut that the lake recorded as complete: from there the log has the skipped events. If the log does
    not reach back to it any more, it is the pod's newest cut; then a repair restores all skipped events.
    """
    newest = newest_cut(pod)
    if max((position.cut for position in reached.values()), default=0) <= newest:
        return None
    recorded = recorded_cut(lake, pod.pod)
    with closing(build_log(settings)) as log:
        kept_from = first_kept_cut(log, pod.pod)
    return recorded if recorded <= newest and 0 < kept_from <= recorded + 1 else newest


def _not_as_sent(pod: str, sources: dict[Source, _Side], held: _Side, parked: Collection[str]) -> Iterator[EventDamage]:
    """Yield the published events that are missing, duplicated or altered in the lake."""
    for source, side in sources.items():
        for event in side.events.values():
            if event.event_id not in held.events:
                if event.event_id not in parked:
                    yield _damage(pod, DamageKind.MISSING, event, source)
                continue
            if held.copies[event.event_id] > 1:
                yield _damage(pod, DamageKind.DUPLICATE, event, source)
            if held.digests[event.event_id] != {event.digest}:
                others = held.keys[event.event_id] - {event.aggregate_key}
                yield replace(_damage(pod, DamageKind.ALTERED, event, source), held_as=tuple(sorted(others)))


def _disputed(
    settings: Settings, pod: PodSettings, held: _Side, damages: Iterable[EventDamage]
) -> Iterator[EventDamage]:
    """Yield the damages; an altered event is disputed when the log has it like the lake, and unlike the outbox."""
    found = list(damages)
    cuts = {item.cut for item in found if item.kind is DamageKind.ALTERED and item.source is Source.OUTBOX}
    logged = {row["event_id"]: digest(row) for row in logged_events(settings, pod, cuts)} if cuts else {}
    for item in found:
        is_of_both = item.event_id in logged and held.digests.get(item.event_id) == {logged[item.event_id]}
        yield replace(item, is_disputed=item.kind is DamageKind.ALTERED and is_of_both)


def _not_sent(
    pod: str, sources: dict[Source, _Side], held: _Side, base_cut: int, backed_up_cut: int
) -> Iterator[EventDamage]:
    """Yield events that only the lake has, when outbox or backup is complete there, and duplicates of such events."""
    sent = {event_id for side in sources.values() for event_id in side.events}
    for event in held.events.values():
        if event.event_id in sent:
            continue
        if event.cut > base_cut or event.cut <= backed_up_cut:
            yield _damage(pod, DamageKind.EXTRA, event, None)
        elif held.copies[event.event_id] > 1 and len(held.digests[event.event_id]) == 1:
            yield _damage(pod, DamageKind.DUPLICATE, event, None)


def _damage(pod: str, kind: DamageKind, event: Event, source: Source | None) -> EventDamage:
    return EventDamage(
        kind=kind,
        pod=pod,
        event_id=event.event_id,
        aggregate_key=event.aggregate_key,
        version=event.version,
        cut=event.cut,
        source=None if kind is DamageKind.DUPLICATE else source,
    )


def _outbox(pod: PodSettings, keys: Collection[str], cuts: Collection[int], reached: dict[int, Position]) -> _Side:
    """Return the outbox's events up to the lake's position; later events are not applied yet."""
    side = _Side()
    seen: set[str] = set()
    for table in (events_of_aggregates(pod, keys) if keys else None, events_of_cuts(pod, cuts) if cuts else None):
        for row in _rows(table):
            standing = reached.get(row["partition"], START)
            is_applied = row["cut"] <= standing.cut or (
                row["cut"] == standing.cut + 1 and row["chunk"] < standing.chunk
            )
            if is_applied and row["event_id"] not in seen:
                seen.add(row["event_id"])
                side.take(row)
    return side


def _backup(
    lake: duckdb.DuckDBPyConnection,
    settings: Settings,
    pod: str,
    keys: Collection[str],
    cuts: Collection[int],
    base_cut: int,
) -> tuple[_Side, int]:
    """Return the verified backup's events of pruned cuts, and the cut up to which it is complete (0: no backup).

    We do not verify the files against their index here; that happens when a repair takes events from them.
    """
    side = _Side()
    chain = verified_chains(settings.lake_backup_path).get(pod, []) if base_cut else []
    if not chain or chain[-1].epoch != lake_progress(lake, pod).epoch:
        return side, 0
    bound = {**_bound(pod, keys, cuts), "event_ids": []}
    with open_beside(bounds_of(settings)) as connection:
        for segment in chain:
            if segment.from_cut <= base_cut:
                source = file_rows(settings.lake_backup_path / segment.file)
                side.take_all(connection, SELECTED.format(source=source), bound, through_cut=base_cut)
    return side, min(chain[-1].through_cut, base_cut)


def _lake(
    lake: duckdb.DuckDBPyConnection, pod: str, keys: Collection[str], cuts: Collection[int], event_ids: Sequence[str]
) -> _Side:
    side = _Side()
    side.take_all(lake, SELECTED.format(source=EVENTS), {**_bound(pod, keys, cuts), "event_ids": list(event_ids)})
    return side


def _bound(pod: str, keys: Collection[str], cuts: Collection[int]) -> dict[str, Any]:
    parts = [key.split("/", 2) for key in sorted(keys)]
    merchants, types, ids = ([part[index] for part in parts] for index in range(3))
    return {"pod": pod, "cuts": sorted(cuts), "merchants": merchants, "types": types, "ids": ids}


def _rows(table: pa.Table | None) -> Sequence[dict[str, Any]]:
    return [] if table is None else table.to_pylist()
