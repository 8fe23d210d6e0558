"""Parking: an event that cannot be applied (poison) is set aside, with all later events of its aggregate.

Belongs here: which events of a step are parked and why, and replaying them after a fix. Does not belong here: where
parked events are stored (the projection stores them, in the transaction that moves the position).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from contracts.clock import Clock, utc_now
from contracts.ids import aggregate_key
from streams.codec import EVENT_SCHEMA
from streams.projection import (
    Entry,
    FencedError,
    ParkedEvent,
    PoisonEventError,
    Projection,
    ReplayableProjection,
    Work,
)

KEYS_PER_COMMIT = 1_000
"""Number of aggregates whose parked events are applied in one commit. It limits the memory, and the work of a retry."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """From position `from_position` on, the events of one aggregate are parked."""

    from_position: int
    event_id: str | None = None
    """The event that could not be applied; None when it was parked in an earlier step."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """The result of replaying parked events."""

    replayed_events: int
    still_parked: frozenset[str]
    """Keys of the aggregates that have an event which still cannot be applied."""


def apply_parking(projection: Projection, work: Work, parked_keys: Collection[str], clock: Clock) -> frozenset[str]:
    """Apply `work`, and park the events that cannot be applied or wait behind a parked event; return all parked keys.

    Raises FencedError as the projection does.
    """
    holds = {key: Hold(from_position=0) for key in parked_keys}
    while True:
        attempt = hold_back(work, holds, clock())
        try:
            projection.apply(attempt)
        except PoisonEventError as poison:
            for one, key, position in _found(attempt, poison):
                if key not in holds or position < holds[key].from_position:
                    holds[key] = Hold(from_position=position, event_id=one.event_id, reason=one.reason)
            continue
        return frozenset(holds)


def hold_back(work: Work, holds: Mapping[str, Hold], now: datetime) -> Work:
    """Return `work` with the held events moved from its entries to its parked events."""
    if not holds:
        return work
    entries: list[Entry] = []
    parked: list[ParkedEvent] = list(work.parked)
    behind: set[str] = set()
    for entry in work.entries:
        kept, held = _divide(entry, holds)
        parked += [_parked(row, holds, now) for row in held]
        behind |= {key for key in map(_key, held) if holds[key].event_id is None}
        if kept.num_rows:
            entries.append(replace(entry, events=kept))
    return replace(work, entries=entries, parked=parked, behind=tuple(sorted(behind)))


def replay_parked(
    projection: ReplayableProjection,
    pod: str,
    data_at: datetime,
    *,
    keys: Collection[str] | None = None,
    clock: Clock = utc_now,
) -> ReplayResult:
    """Apply the parked events of `keys` (all when None) again, in order, many aggregates in a commit.

    Call it after the cause was fixed. An event that still fails stays parked, with its present reason. The projection's
    position does not move; `data_at` is the registration time of that position.
    """
    waiting = projection.state(pod).parked_keys
    left = sorted(waiting if keys is None else {*keys} & {*waiting})
    replayed, at_once = 0, KEYS_PER_COMMIT
    while left:
        done = _replay_keys(projection, pod, left[:at_once], data_at, clock)
        if done is None:
            # The consumer moved the position meanwhile, so the commit was fenced. Retry with fewer aggregates, which is
            # faster.
            at_once = max(1, at_once // 2)
            continue
        replayed, left = replayed + done, left[at_once:]
        at_once = min(KEYS_PER_COMMIT, at_once * 2)
    return ReplayResult(replayed_events=replayed, still_parked=frozenset(projection.state(pod).parked_keys))


def _replay_keys(
    projection: ReplayableProjection, pod: str, keys: Collection[str], data_at: datetime, clock: Clock
) -> int | None:
    """Return the number of applied events; None when the consumer moved the position: it may have parked more."""
    state = projection.state(pod)
    parked = projection.parked_events(pod, keys)
    if not parked or state.epoch is None:
        return 0
    work = Work(
        pod=pod, epoch=state.epoch, entries=_entries(parked), expected=state.positions, positions=state.positions,
        data_at=data_at, released=tuple(sorted({event.aggregate_key for event in parked})),
    )  # fmt: skip
    try:
        apply_parking(projection, work, (), clock)
    except FencedError:
        return None
    return max(0, len(parked) - len(projection.parked_events(pod, keys)))


def _entries(parked: Sequence[ParkedEvent]) -> list[Entry]:
    rows = sorted((dict(event.event) for event in parked), key=itemgetter("cut", "partition", "position"))
    entries = []
    for (cut, partition), group in groupby(rows, key=itemgetter("cut", "partition")):
        events = pa.Table.from_pylist(list(group), schema=EVENT_SCHEMA)
        first = events.slice(0, 1).to_pylist()[0]
        entries.append(
            Entry(pod=first["pod"], epoch=first["epoch"], partition=partition, cut=cut, chunk=0, events=events)
        )
    return entries


def aggregate_keys(events: pa.Table) -> pa.ChunkedArray:
    """Return the aggregate key of every event, equal to `contracts.ids.aggregate_key`."""
    columns = (events.column(name) for name in ("merchant_id", "aggregate_type", "aggregate_id"))
    return pc.binary_join_element_wise(*columns, "/")


def _divide(entry: Entry, holds: Mapping[str, Hold]) -> tuple[pa.Table, list[dict[str, object]]]:
    """Return the events to apply, and the rows to park."""
    is_candidate = pc.is_in(aggregate_keys(entry.events), value_set=pa.array(list(holds), pa.string()))
    candidates = entry.events.filter(is_candidate).to_pylist()
    held = [row for row in candidates if row["position"] >= holds[_key(row)].from_position]
    if not held:
        return entry.events, []
    positions = pa.array([row["position"] for row in held], pa.int64())
    kept = entry.events.filter(pc.invert(pc.is_in(entry.events.column("position"), value_set=positions)))
    return kept, held


def _key(row: Mapping[str, object]) -> str:
    return aggregate_key(str(row["merchant_id"]), str(row["aggregate_type"]), str(row["aggregate_id"]))


def parked_together(rows: Sequence[Mapping[str, Any]], error: str, parked_at: datetime) -> list[ParkedEvent]:
    """Return an aggregate's events as parked: `error` says why the first cannot be applied; the others wait for it."""
    first = rows[0]
    holds = {_key(first): Hold(from_position=first["position"], event_id=first["event_id"], reason=error)}
    return [_parked(row, holds, parked_at) for row in rows]


def _parked(row: Mapping[str, object], holds: Mapping[str, Hold], now: datetime) -> ParkedEvent:
    hold = holds[_key(row)]
    if row["event_id"] == hold.event_id:
        error = hold.reason
    elif hold.event_id is not None:
        error = f"Waits behind event {hold.event_id} of the same aggregate, which could not be applied."
    else:
        error = "Waits behind an earlier event of the same aggregate, which could not be applied."
    return ParkedEvent(
        aggregate_key=_key(row),
        event_id=str(row["event_id"]),
        cut=int(str(row["cut"])),
        position=int(str(row["position"])),
        event=row,
        error=error,
        parked_at=now,
    )


def _found(work: Work, poison: PoisonEventError) -> list[tuple[PoisonEventError, str, int]]:
    """Return the poison events with aggregate key and position; raise one that the step does not contain."""
    every = (poison, *poison.others)
    wanted = pa.array([one.event_id for one in every], pa.string())
    rows: dict[object, dict[str, object]] = {}
    for entry in work.entries:
        for row in entry.events.filter(pc.is_in(entry.events.column("event_id"), value_set=wanted)).to_pylist():
            rows.setdefault(row["event_id"], row)
    for one in every:
        if one.event_id not in rows:
            raise one
    return [(one, _key(row), int(str(row["position"]))) for one in every for row in (rows[one.event_id],)]
