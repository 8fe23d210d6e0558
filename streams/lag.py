"""The lag of a projection behind its log, and the rule how far the log may be trimmed.

Belongs here: observations for status, freshness and Dagster, and the trimming rule. Does not belong here: the largest
allowed lag (`contracts/ownership.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.clock import Clock, utc_now
from streams.log import EventLog, Manifest, Progress, TrimResult, manifests_after
from streams.projection import Position, Projection
from streams.step_planning import completed_state, floor_cut, position_of

STUCK_AFTER = timedelta(hours=24)
"""Trimming ignores a projection whose next cut has waited for longer than this; it must rebuild from the lake."""


@dataclass(frozen=True, kw_only=True)
class PartitionLag:
    """The lag of one partition."""

    partition: int
    applied_cut: int
    lag_events: int
    lag_seconds: float
    """Age of the oldest event in the cuts that the partition has not fully applied; 0.0 when it has applied all."""


@dataclass(frozen=True, kw_only=True)
class ProjectionLag:
    """What one projection has applied of one pod, compared with the pod's log."""

    projection: str
    pod: str
    applied_cut: int
    log_cut: int
    lag_events: int
    lag_seconds: float
    """Age of the oldest event that is in the log and not applied; 0.0 when caught up."""
    parked: int
    """Number of aggregates with parked events; they are late even when the position is current."""
    state: str
    """`current`, `behind`, `parked` (current except for parked aggregates), `gap` (the log lacks the projection's next
    cut), or `ahead` (the log lacks cuts that the projection has: the log lost them, or the pod's database was
    restored).
    """
    partitions: tuple[PartitionLag, ...] = ()
    """The lag by partition; it shows when only one partition is stopped."""


def observe(projection: Projection, pod: str, log: EventLog, *, clock: Clock = utc_now) -> ProjectionLag:
    """Return the lag of `projection` behind the log of `pod`. The cost grows with the lag, not with the history."""
    state = completed_state(projection, pod, log)
    applied = floor_cut(state.positions)
    log_cut = log.tail(pod, 1).own_cut
    first: Manifest | None = None
    events: dict[int, int] = dict.fromkeys(sorted(state.positions), 0)
    oldest: dict[int, datetime] = {}
    for manifest in manifests_after(log, pod, applied):
        first = first or manifest
        for partition, unapplied in _unapplied(manifest, state.positions).items():
            events[partition] = events.get(partition, 0) + unapplied
            if unapplied and manifest.oldest_recorded_at is not None:
                known = oldest.get(partition, manifest.oldest_recorded_at)
                oldest[partition] = min(known, manifest.oldest_recorded_at)
    now = clock()
    partitions = tuple(
        PartitionLag(
            partition=partition,
            applied_cut=position_of(partition, state.positions).cut,
            lag_events=count,
            lag_seconds=max(0.0, (now - oldest[partition]).total_seconds()) if partition in oldest else 0.0,
        )
        for partition, count in events.items()
    )
    lag_events = sum(events.values())
    has_gap = log_cut > applied and (first is None or first.cut != applied + 1)
    standing = "ahead" if applied > log_cut else "gap" if has_gap else "behind" if lag_events else ""
    return ProjectionLag(
        projection=projection.name,
        pod=pod,
        applied_cut=applied,
        log_cut=log_cut,
        lag_events=lag_events,
        lag_seconds=max((item.lag_seconds for item in partitions), default=0.0),
        parked=len(state.parked_keys),
        state=standing or ("parked" if state.parked_keys else "current"),
        partitions=partitions,
    )


def _unapplied(manifest: Manifest, positions: Mapping[int, Position]) -> dict[int, int]:
    """Return partition -> number of unapplied events of a cut, for partitions that have not fully applied it."""
    events = {}
    for partition, chunks in enumerate(manifest.partitions):
        standing = position_of(partition, positions)
        if standing.cut < manifest.cut:
            done = standing.chunk if standing.cut == manifest.cut - 1 else 0
            events[partition] = sum(chunk.events for chunk in chunks[done:])
    return events


def trim_log(
    log: EventLog,
    pod: str,
    through_cut: int | None = None,
    *,
    stuck_after: timedelta = STUCK_AFTER,
    never_ignored: Collection[str] = ("lake",),
    clock: Clock = utc_now,
) -> TrimResult:
    """Remove cuts that every registered projection has applied, at most through `through_cut`.

    The last cut that all projections have applied stays, so that the end of the log can be compared with the database.
    A projection that is stuck for longer than `stuck_after` is ignored and named in the result. Projections in
    `never_ignored` always count, because the others rebuild from them; while one of them is not registered, nothing is
    trimmed.
    """
    registered = log.progress(pod)
    since = clock() - stuck_after
    stuck = [item for item in registered if item.projection not in never_ignored and _is_stuck(log, pod, item, since)]
    applied = {item.projection: item.applied_cut for item in registered if item not in stuck}
    floor = min([*applied.values(), *(applied.get(name, 0) for name in never_ignored)], default=0)
    kept_from = floor if through_cut is None else min(floor, through_cut)
    removed = log.trim(pod, kept_from) if kept_from > 1 else 0
    return TrimResult(
        kept_from_cut=max(kept_from, 1), removed_entries=removed, ignored=tuple(item.projection for item in stuck)
    )


def _is_stuck(log: EventLog, pod: str, progress: Progress, since: datetime) -> bool:
    waiting = log.manifests(pod, progress.applied_cut, limit=1)
    return bool(waiting) and waiting[0].published_at < since
