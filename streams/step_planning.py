"""Plans which entries a consumer applies next, from its positions and the manifests; pure except for one look-up.

Belongs here: advancing positions, and detecting that a cut is missing. Does not belong here: fetching or applying.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from contracts.errors import EpochChangedError, LogGapError
from streams.log import ChunkManifest, EntryId, EventLog, Manifest
from streams.projection import START, EpochOpening, Position, Projection, ProjectionState


@dataclass(frozen=True, kw_only=True)
class PlannedEntry:
    """One entry to apply, with its number of events and checksum from the manifest."""

    at: EntryId
    stated: ChunkManifest


@dataclass(frozen=True, kw_only=True)
class Step:
    """Entries to apply in one commit, and the positions of the partitions that they move."""

    epoch: str
    entries: tuple[PlannedEntry, ...]
    expected: Mapping[int, Position]
    positions: Mapping[int, Position]
    data_at: datetime
    opening: EpochOpening | None = None


def floor_cut(positions: Mapping[int, Position], stopped: Collection[int] = ()) -> int:
    """Return the cut that all partitions have applied, without the stopped ones unless all are stopped; 0 for none."""
    moving = [position.cut for partition, position in positions.items() if partition not in stopped]
    return min(moving or [position.cut for position in positions.values()], default=0)


def position_of(partition: int, positions: Mapping[int, Position]) -> Position:
    """Return a partition's position. `positions` are `completed`, so a missing partition was added since."""
    return positions.get(partition, Position(cut=floor_cut(positions), chunk=0))


def completed(positions: Mapping[int, Position], floor_manifest: Manifest | None) -> Mapping[int, Position]:
    """Return `positions` with START for every missing partition that existed at the floor cut.

    A store may not keep START, so a missing partition has two meanings. If the manifest of the floor cut has the
    partition, nothing of it is applied. If not, it was added since (a larger partition count), and nothing of it is
    missed.
    """
    count = len(floor_manifest.partitions) if floor_manifest is not None else 0
    return {**dict.fromkeys(range(count), START), **positions}


def completed_state(projection: Projection, pod: str, log: EventLog) -> ProjectionState:
    """Return the projection's state with `completed` positions."""
    state = projection.state(pod)
    floor = floor_cut(state.positions)
    found = log.manifests(pod, floor - 1, limit=1) if floor else []
    at_floor = next((manifest for manifest in found if manifest.cut == floor), None)
    return replace(state, positions=completed(state.positions, at_floor))


def check_contiguous(after_cut: int, manifests: Sequence[Manifest], pod: str) -> None:
    """Raise LogGapError unless the manifests continue after `after_cut` without a gap."""
    for expected, manifest in enumerate(manifests, start=after_cut + 1):
        if manifest.cut != expected:
            raise LogGapError(
                f"The log of pod {pod} has no manifest of cut {expected}; the next one is of cut {manifest.cut}. "
                "What lies between is in the lake: rebuild from there, or republish into a new generation."
            )


def of_one_epoch(
    manifests: Sequence[Manifest], known: str | None, positions: Mapping[int, Position], follower: str
) -> Sequence[Manifest]:
    """Return the manifests up to the next opening of an epoch, or beyond it if every partition stands exactly there.

    `known` is the epoch of the applied cuts (None: nothing is applied). Raises EpochChangedError when the epoch changes
    and no opening is recorded.
    """
    for index, manifest in enumerate(manifests):
        if known is not None and manifest.epoch != known:
            if manifest.follows_epoch != known:
                raise EpochChangedError(
                    f"{follower} follows epoch {known}, but cut {manifest.cut} is of epoch {manifest.epoch}, which was "
                    "not opened at that point: open it with `tieout open-epoch`; a projection of your own that has "
                    "what this took back must be built again."
                )
            base = Position(cut=manifest.cut - 1, chunk=0)
            if index or any(position != base for position in positions.values()):
                return manifests[:index]
        known = manifest.epoch
    return manifests


def opening_in(manifests: Sequence[Manifest]) -> EpochOpening | None:
    """Return the opening of the epoch if the first of these manifests has one, else None."""
    if not manifests or manifests[0].follows_epoch is None:
        return None
    first = manifests[0]
    return EpochOpening(epoch=first.epoch, base_cut=first.cut - 1, base_epoch=first.follows_epoch)


def plan_step(
    positions: Mapping[int, Position], manifests: Sequence[Manifest], *, stopped: Collection[int], events_max: int
) -> Step | None:
    """Return the next step of at most `events_max` events (or one larger entry); None when nothing is left to apply.

    A larger cut is applied in several steps; then the positions count its applied chunks.
    """
    count = max((len(manifest.partitions) for manifest in manifests), default=0)
    moved = {partition: position_of(partition, positions) for partition in range(count) if partition not in positions}
    taker, opening = _Taker(events_max), opening_in(manifests)
    newest: Manifest | None = None
    for manifest in manifests:
        for partition, chunks in enumerate(manifest.partitions):
            standing = moved.get(partition) or positions[partition]
            if partition in stopped or standing.cut >= manifest.cut:
                continue
            newest = manifest
            taken = taker.take(manifest, partition, standing.chunk)
            is_done = standing.chunk + taken == len(chunks)
            moved[partition] = (
                Position(cut=manifest.cut, chunk=0) if is_done else replace(standing, chunk=standing.chunk + taken)
            )
            if not is_done:
                return _step(manifest, taker.entries, positions, moved, opening)
    return None if newest is None else _step(newest, taker.entries, positions, moved, opening)


class _Taker:
    """Collects entries up to `events_max` events; the first entry is taken whatever its size."""

    def __init__(self, events_max: int) -> None:
        self.entries: list[PlannedEntry] = []
        self._events_left = events_max

    def take(self, manifest: Manifest, partition: int, from_chunk: int) -> int:
        """Take the chunks from `from_chunk` on that still fit; return their number."""
        chunks = manifest.partitions[partition][from_chunk:]
        for taken, stated in enumerate(chunks):
            if self.entries and stated.events > self._events_left:
                return taken
            at = EntryId(
                generation=manifest.generation, partition=partition, cut=manifest.cut, chunk=from_chunk + taken
            )
            self.entries.append(PlannedEntry(at=at, stated=stated))
            self._events_left -= stated.events
        return len(chunks)


def _step(
    manifest: Manifest,
    entries: list[PlannedEntry],
    positions: Mapping[int, Position],
    moved: dict[int, Position],
    opening: EpochOpening | None,
) -> Step:
    changed = {partition: place for partition, place in moved.items() if place != positions.get(partition)}
    return Step(
        epoch=manifest.epoch,
        entries=tuple(entries),
        expected={partition: positions.get(partition, START) for partition in changed},
        positions=changed,
        data_at=manifest.registered_at,
        opening=opening,
    )
