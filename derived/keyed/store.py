"""The port that a store of a keyed projection implements: one transaction with rows, positions and parked events in it.

Belongs here: what a projection asks of its store. Does not belong here: any store (`derived/read_models/store.py` is
the one in PostgreSQL), when it is asked (`derived/keyed/projection.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from contracts.errors import PropagationError
from derived.keyed.decoding import LatestEvent
from derived.keyed.rows import Content, Root
from streams.projection import ParkedEvent, PoisonEventError, Position, Work

Stored = Mapping[int, tuple[str | None, Position]]
"""Epoch and position by partition."""
Key = tuple[str, str]
"""(merchant_id, id) of an aggregate of a known type."""


class RefusedContentError(PropagationError):
    """The store does not take what is in one of the rows, whatever else is stored with it."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one partition stands; the epoch and the age are None at the start."""

    epoch: str | None
    position: Position
    data_at: datetime | None


class KeyedSession(Protocol):
    """One transaction of a store, in behalf of one projection."""

    def positions(self, pod: str) -> Stored:
        """Return epoch and position of every partition that has one."""

    def lock_positions(self, pod: str, partitions: Sequence[int]) -> Stored:
        """Return them, those of `partitions` made at the start where they are missing, and keep all others off.

        Whoever applies or rebuilds holds this until it commits: one at a time per projection and pod.
        """

    def move_positions(self, pod: str, epoch: str, positions: Mapping[int, Position], data_at: datetime) -> None:
        """Write new positions; they are locked."""

    def set_back(self, pod: str, standings: Mapping[int, Standing]) -> None:
        """Write earlier positions, and forget what was parked after them; they are locked."""

    def parked_keys(self, pod: str) -> frozenset[str]:
        """Return the aggregate keys that have parked events."""

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return what is parked, of these aggregates or of all, ordered by (cut, position)."""

    def park_and_release(self, work: Work) -> None:
        """Take a step's released keys out of the parking lot, then put its parked events in.

        Raises FencedError when a released key, or one that others wait behind, is no longer there.
        """

    def park(self, pod: str, key: str, rows: Sequence[Mapping[str, Any]], error: str) -> None:
        """Park an aggregate's events (whole envelopes), the first of which cannot be applied because of `error`."""

    def skip(self, pod: str, event_id: str, *, reason: str, by: str) -> None:
        """Pass over a parked event for good; NotFoundError when it is parked no more."""

    def skipped_ids(self, pod: str) -> Sequence[str]:
        """Return the ids of the events that are passed over."""

    def write(self, root: Root, content: Content) -> None:
        """Write rows that are newer than what is there, by (version, or another epoch of the same pod)."""

    def insert(self, root: Root, content: Content) -> bool:
        """Write rows whose keys have none; False, and nothing written, where one has, or cannot be stored."""

    def write_or_refuse(self, root: Root, events: Sequence[LatestEvent]) -> list[PoisonEventError]:
        """Write the events that the store takes; return the others, with its reasons. They can all be read."""

    def delete(self, root: Root, keys: Sequence[Key], pod: str) -> int:
        """Delete what a pod has put there of these aggregates; return the number of root rows."""

    def delete_pod(self, root: Root, pod: str, *, except_keys: Sequence[Key]) -> int:
        """Delete everything of a pod but `except_keys`; return the number of root rows."""

    def pods_of(self, root: Root, keys: Sequence[Key]) -> Mapping[str, set[Key]]:
        """Return which of these aggregates have a row, by the pod that it says it is of."""

    def digests(self, root: Root, keys: Sequence[Key]) -> set[tuple[str, ...]]:
        """Return what is stored of these aggregates: table, key and a digest of the rows."""

    def digest_of_pod(self, root: Root, pod: str) -> object:
        """Return what tells a pod's rows from all others, whatever their order."""

    def lock_sums(self, tables: Sequence[str]) -> None:
        """Keep all others from changing these sums until the commit; called before anything is written."""

    def sum_again(self, table: str, keys: Sequence[Key] | None) -> int:
        """Make sums what the rows add up to: those of these keys, or all; return how many were other ones."""


class KeyedStore(Protocol):
    """A store that holds the rows, positions and parked events of one projection; any number of threads may use it."""

    def transaction(self) -> AbstractContextManager[KeyedSession]:
        """Begin; commit at the end, or keep nothing after an error.

        Raises RefusedContentError where a row cannot be stored, PropagationError where the store cannot be used.
        """

    def snapshot(self) -> AbstractContextManager[KeyedSession]:
        """Read as of one moment."""

    def trial(self) -> AbstractContextManager[KeyedSession]:
        """Begin; keep nothing whatever happens."""

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
