"""The port between the consumer loop and the projections, which are built from the log.

Belongs here: the values that loop and projection exchange. Does not belong here: the loop (`streams/consumer.py`) or
any store (`derived/`).
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
    """An event that could not be applied, or a later event of the same aggregate."""

    aggregate_key: str
    event_id: str
    cut: int
    position: int
    event: Mapping[str, object]
    """All envelope columns, payload included, so that it can be replayed."""
    error: str
    """The reason, one sentence. For a later event of the aggregate: the event that it waits for."""
    parked_at: datetime


@dataclass(frozen=True, kw_only=True)
class EpochOpening:
    """Says that a pod's cuts after `base_cut` belong to another epoch: its database was restored, promoted or moved."""

    epoch: str
    base_cut: int
    base_epoch: str | None
    """The epoch of `base_cut`; None when `base_cut` is 0, because no earlier cut is kept."""


@dataclass(frozen=True, kw_only=True)
class ProjectionState:
    """What a projection has applied of one pod: positions by partition, and the keys of parked aggregates."""

    epoch: str | None
    """The epoch of the furthest position. At an opening, other partitions may still be in the earlier epoch."""
    positions: Mapping[int, Position]
    parked_keys: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Work:
    """One atomic step: these entries, these parked events and the positions after them commit together.

    `expected` are the positions that the step was computed from, for exactly the partitions in `positions`. START in it
    also means that no position is stored. The projection compares `expected` with its stored positions inside its
    transaction. When another consumer has moved them, it raises FencedError and commits nothing of the step.
    """

    pod: str
    epoch: str
    entries: Sequence[Entry]
    expected: Mapping[int, Position]
    positions: Mapping[int, Position]
    """The new positions of the partitions that move. A partition without events also moves, by the manifest alone."""
    data_at: datetime
    """When the newest cut of this step was registered in its pod: the copy's data age counts from here."""
    opening: EpochOpening | None = None
    """Set in a step with the first cut of an epoch. A partition at `base_cut` may still have `base_epoch`."""
    parked: Sequence[ParkedEvent] = field(default=())
    behind: Sequence[str] = field(default=())
    """Aggregate keys whose events are in `parked` only because earlier events of theirs were parked by an earlier step.
    When such a key is no longer parked in the store (it was replayed meanwhile), the store raises FencedError, because
    the events would wait for a parked event that does not exist.
    """
    released: Sequence[str] = field(default=())
    """Aggregate keys whose parked events are in `entries` again (a replay after a fix). The same commit deletes their
    parked rows. In such a step `positions` equals `expected`; the update of these rows fences it.
    """


class FencedError(PropagationError):
    """Another consumer of the same projection and pod has moved the position; nothing of the step was committed."""


class PoisonEventError(PropagationError):
    """One event cannot be applied; the loop parks it and its aggregate's later events, and continues.

    A projection that knows more such events of the same step names them in `others`. Then the loop retries the step
    once, not once per event.
    """

    def __init__(self, event_id: str, reason: str, *, others: Sequence[PoisonEventError] = ()) -> None:
        super().__init__(f"Event {event_id} cannot be applied: {reason}")
        self.event_id = event_id
        self.reason = reason
        self.others = tuple(others)

    @classmethod
    def of_all(cls, found: Sequence[PoisonEventError]) -> PoisonEventError:
        """Return one error that names all of `found`, which must not be empty."""
        return cls(found[0].event_id, found[0].reason, others=found[1:])


class Projection(Protocol):
    """A copy that is built from the log. Effect, parked events and positions commit together in its own store."""

    name: str

    def state(self, pod: str) -> ProjectionState:
        """Return what is applied of `pod`; a new projection has no positions."""

    def apply(self, work: Work) -> None:
        """Apply one step in one transaction. Raises FencedError or PoisonEventError; then nothing was committed."""


class ClosableProjection(Projection, Protocol):
    """A projection with connections of its own, which its builder closes."""

    def close(self) -> None:
        """Close the connections."""


class ReplayableProjection(Projection, Protocol):
    """A projection whose parked events can be read, so that they can be replayed after a fix."""

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return the parked events of `pod`, of the aggregates `keys` or of all (None), ordered by (cut, position)."""


@runtime_checkable
class Recoverable(Protocol):
    """A projection with a recovery command for people, for when the log no longer has the projection's next cut."""

    def recovery_command(self, pod: str, applied_cut: int) -> str:
        """Return the command line to show; `applied_cut` is the projection's last applied cut of `pod`, or 0."""
