"""The port that a store of a keyed projection implements: rows, positions and parked events in one transaction.

Belongs here: what a projection requires of its store. Does not belong here: any store (`derived/read_models/store.py`
is the one in PostgreSQL), when it is called (`derived/keyed/projection.py`).
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
"""Partition -> (epoch, position)."""
Key = tuple[str, str]
"""(merchant_id, id) of an aggregate of a known type."""


class RefusedContentError(PropagationError):
    """The store refuses the content of one of the rows, independent of the other rows."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The position of one partition; epoch and time are None at the start."""

    epoch: str | None
    position: Position
    data_at: datetime | None


class KeyedSession(Protocol):
    """One transaction of a store, on behalf of one projection."""

    def positions(self, pod: str) -> Stored:
        """Return epoch and position of every partition that has one."""

    def lock_positions(self, pod: str, partitions: Sequence[int]) -> Stored:
        """Lock and return the positions; create those of `partitions` that are missing, at the start.

        A caller that applies or rebuilds holds the lock until it commits: one at a time per projection and pod.
        """

    def move_positions(self, pod: str, epoch: str, positions: Mapping[int, Position], data_at: datetime) -> None:
        """Write new positions; the caller has locked them."""

    def set_back(self, pod: str, standings: Mapping[int, Standing]) -> None:
        """Write earlier positions, and delete what was parked after them; the caller has locked them."""

    def parked_keys(self, pod: str) -> frozenset[str]:
        """Return the aggregate keys that have parked events."""

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return the parked events, of these aggregates or of all, ordered by (cut, position)."""

    def park_and_release(self, work: Work) -> None:
        """Delete the parked events of a step's released keys, then park its new ones.

        Raises FencedError if a released key, or a key that other events wait behind, is not parked any more.
        """

    def park(self, pod: str, rows: Sequence[Mapping[str, Any]], error: str) -> None:
        """Park an aggregate's events (whole envelopes); the first of them cannot be applied because of `error`."""

    def skip(self, pod: str, event_id: str, *, reason: str, by: str) -> None:
        """Skip a parked event permanently; NotFoundError if it is not parked any more."""

    def skipped_ids(self, pod: str) -> Sequence[str]:
        """Return the ids of the skipped events."""

    def write(self, root: Root, content: Content) -> None:
        """Upsert rows: a row wins by a higher version, or by another epoch of the same pod."""

    def insert(self, root: Root, content: Content) -> bool:
        """Insert rows; return False and write nothing if a key has a row already, or if a row cannot be stored."""

    def write_or_refuse(self, root: Root, events: Sequence[LatestEvent]) -> list[PoisonEventError]:
        """Write the events that the store accepts; return the others with its reasons. All must be readable."""

    def delete(self, root: Root, keys: Sequence[Key], pod: str) -> int:
        """Delete a pod's rows of these aggregates; return the number of root rows."""

    def delete_pod(self, root: Root, pod: str, *, except_keys: Sequence[Key]) -> int:
        """Delete everything of a pod except `except_keys`; return the number of root rows."""

    def pods_of(self, root: Root, keys: Sequence[Key]) -> Mapping[str, set[Key]]:
        """Return pod -> those of these aggregates that have a row of that pod."""

    def digests(self, root: Root, keys: Sequence[Key]) -> set[tuple[str, ...]]:
        """Return (table, merchant_id, id, digest of the rows) for what is stored of these aggregates."""

    def digest_of_pod(self, root: Root, pod: str) -> object:
        """Return a digest of a pod's rows, independent of their order."""

    def lock_sums(self, tables: Sequence[str]) -> None:
        """Lock these sums against other writers until the commit; called before anything is written."""

    def sum_again(self, table: str, keys: Sequence[Key] | None) -> int:
        """Add up these sums again, or all sums; return how many were wrong."""


class KeyedStore(Protocol):
    """A store that holds the rows, positions and parked events of one projection; any number of threads may use it."""

    def transaction(self) -> AbstractContextManager[KeyedSession]:
        """Begin a transaction; commit at the end, roll back after an error.

        Raises RefusedContentError if a row cannot be stored, PropagationError if the store cannot be used.
        """

    def snapshot(self) -> AbstractContextManager[KeyedSession]:
        """Begin a read-only transaction that reads one snapshot."""

    def trial(self) -> AbstractContextManager[KeyedSession]:
        """Begin a transaction that is always rolled back."""

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
