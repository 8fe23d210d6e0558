"""How far a projection is behind its log, and how far the log may be trimmed.

Belongs here: observations for status, freshness and Dagster, and the trimming rule. Does not belong here: what lag is
allowed (`contracts/ownership.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.clock import Clock, utc_now
from streams.log import EventLog, Manifest, Progress, TrimResult
from streams.projection import Position, Projection
from streams.steps import completed_state, floor_cut, position_of

PAGE = 1_000
STUCK_AFTER = timedelta(hours=24)
"""A projection whose next cut has waited longer than this no longer holds trimming back: it rebuilds from the lake."""


@dataclass(frozen=True, kw_only=True)
class ProjectionLag:
    """What one projection of one pod has, against what its log has."""

    projection: str
    pod: str
    applied_cut: int
    log_cut: int
    lag_events: int
    lag_seconds: float
    """Age of the oldest event that is in the log and not applied; 0.0 when caught up."""
    parked: int
    """Aggregates with parked events: late, whatever the position says."""
    state: str
    """`current`, `behind`, `parked` (current but for parked keys), or `gap` (the log lacks what it needs next)."""


def observe(projection: Projection, pod: str, log: EventLog, *, clock: Clock = utc_now) -> ProjectionLag:
    """Return how far `projection` is behind the log of `pod`. Cost follows the lag, not the history."""
    state = completed_state(projection, pod, log)
    applied = floor_cut(state.positions)
    log_cut = log.tail(pod, 1).manifest_cut
    events, first, oldest = 0, None, None
    for manifest in _manifests_after(log, pod, applied):
        first = first or manifest
        unapplied = _unapplied(manifest, state.positions)
        events += unapplied
        if unapplied and manifest.oldest_recorded_at is not None:
            oldest = min(oldest or manifest.oldest_recorded_at, manifest.oldest_recorded_at)
    has_gap = log_cut > applied and (first is None or first.cut != applied + 1)
    return ProjectionLag(
        projection=projection.name,
        pod=pod,
        applied_cut=applied,
        log_cut=log_cut,
        lag_events=events,
        lag_seconds=max(0.0, (clock() - oldest).total_seconds()) if oldest else 0.0,
        parked=len(state.parked_keys),
        state="gap" if has_gap else "behind" if events else "parked" if state.parked_keys else "current",
    )


def _manifests_after(log: EventLog, pod: str, cut: int) -> Iterator[Manifest]:
    while page := log.manifests(pod, cut, limit=PAGE):
        yield from page
        cut = page[-1].cut


def _unapplied(manifest: Manifest, positions: Mapping[int, Position]) -> int:
    events = 0
    for partition, chunks in enumerate(manifest.partitions):
        standing = position_of(partition, positions)
        if standing.cut < manifest.cut:
            done = standing.chunk if standing.cut == manifest.cut - 1 else 0
            events += sum(chunk.events for chunk in chunks[done:])
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

    The last cut that all have stays, so that tails can always be compared. A projection that is stuck longer than
    `stuck_after` is ignored and named in the result; those in `never_ignored` always count, because the others rebuild
    from them: while one of them is not registered, nothing is trimmed.
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
