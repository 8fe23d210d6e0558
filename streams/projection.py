"""What a consumer of the log must be able to do: the port between the consumer loop and everything built from the log.

Belongs here: the values that pass between loop and projection. Does not belong here: the loop (`streams/consumer.py`)
or any store (`derived/`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

import pyarrow as pa

from contracts.errors import PropagationError


@dataclass(frozen=True, kw_only=True, order=True)
class Position:
    """How far one partition has been applied: all cuts <= `cut`, and the first `chunk` entries of cut + 1."""

    cut: int
    chunk: int


START = Position(cut=0, chunk=0)
"""Nothing applied yet; cuts start at 1."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One log entry: a chunk of one cut's events of one partition, ordered by outbox position.

    `events` has the columns of `contracts.events.envelope.ENVELOPE_COLUMNS`; timestamps are `timestamp[us, UTC]`, ids
    and payload are strings. Chunks of a cut are numbered from 0.
    """

    pod: str
    epoch: str
    partition: int
    cut: int
    chunk: int
    events: pa.Table


@dataclass(frozen=True, kw_only=True)
class ParkedEvent:
    """An event that could not be applied, or that stands behind one of the same aggregate that could not."""

    aggregate_key: str
    event_id: str
    cut: int
    position: int
    event: Mapping[str, object]
    """All envelope columns, payload included, so that it can be replayed."""
    error: str
    """One sentence; for a follower, which event it waits for."""
    parked_at: datetime


@dataclass(frozen=True, kw_only=True)
class EpochOpening:
    """That a pod's cuts after `base_cut` are of another epoch: its database was restored, promoted or moved."""

    epoch: str
    base_cut: int
    base_epoch: str | None
    """The epoch of `base_cut`; None when nothing of what was before is common, and `base_cut` is 0."""


@dataclass(frozen=True, kw_only=True)
class ProjectionState:
    """What a projection has of one pod: positions by partition, and the keys that are parked."""

    epoch: str | None
    """That of the furthest position: while a step crosses an opening, some partitions may still be in another one."""
    positions: Mapping[int, Position]
    parked_keys: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Work:
    """One atomic step: these entries, these parked events and the positions after them commit together.

    `expected` are the positions the step was computed from, for exactly the partitions in `positions`; START means
    "no position stored yet, or START". The projection compares them inside its transaction and raises FencedError when
    another consumer has moved them; then nothing of the step is kept.
    """

    pod: str
    epoch: str
    entries: Sequence[Entry]
    expected: Mapping[int, Position]
    positions: Mapping[int, Position]
    """The new positions of the partitions that move (a partition without events moves by the manifest alone)."""
    data_at: datetime
    """When the newest cut of this step was registered in its pod: the copy's data age counts from here."""
    opening: EpochOpening | None = None
    """With the first cut of an epoch: what it follows. A partition that stands at its base may be of that epoch."""
    parked: Sequence[ParkedEvent] = field(default=())
    behind: Sequence[str] = field(default=())
    """Aggregate keys whose events are in `parked` only because earlier events are parked already. A store in which
    such a key is no longer parked (it was replayed meanwhile) raises FencedError: nothing may wait behind nothing."""
    released: Sequence[str] = field(default=())
    """Aggregate keys whose parked events are among `entries` again (a replay after a fix): their parked rows go in
    the same commit. Such a step has `positions` equal to `expected`; touching those rows is what fences it."""


class FencedError(PropagationError):
    """Another consumer of the same projection and pod has moved the position."""


class PoisonEventError(PropagationError):
    """One event cannot be applied; the loop parks it and its aggregate's later events, and goes on.

    A projection that knows of `others` in the same step names them, too: then the step is tried again once, not once
    for each of them.
    """

    def __init__(self, event_id: str, reason: str, *, others: Sequence[PoisonEventError] = ()) -> None:
        super().__init__(f"Event {event_id} cannot be applied: {reason}")
        self.event_id = event_id
        self.reason = reason
        self.others = tuple(others)

    @classmethod
    def of_all(cls, found: Sequence[PoisonEventError]) -> PoisonEventError:
        """Return one error that names all of `found`, of which there is at least one."""
        return cls(found[0].event_id, found[0].reason, others=found[1:])


class Projection(Protocol):
    """A store that is built from the log. Effect, parked events and positions commit together in its own store."""

    name: str

    def state(self, pod: str) -> ProjectionState:
        """Return what is applied of `pod`; for a new projection no positions."""

    def apply(self, work: Work) -> None:
        """Apply one step atomically. Raises FencedError, or PoisonEventError before anything was kept."""


class ClosableProjection(Projection, Protocol):
    """A projection with connections of its own, which its builder closes."""

    def close(self) -> None:
        """Let the connections go."""


class ReplayableProjection(Projection, Protocol):
    """A projection that hands its parked events out again, so that they can be replayed after a fix."""

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return what is parked of `pod`, of these aggregates or of all, ordered by (cut, position)."""


@runtime_checkable
class Recoverable(Protocol):
    """A projection that knows what a person runs when the log no longer has the cuts that it needs next."""

    def recovery_command(self, pod: str, applied_cut: int) -> str:
        """Return the command line, to be shown; `applied_cut` is what the projection has of `pod`, 0 for nothing."""
