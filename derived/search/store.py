"""The store of the search index behind the port of keyed projections: an index per pod, one commit per transaction.

Rows, positions and parked events of a pod are documents of one index, so they commit together. A transaction that
writes several pods (of a merchant that has moved) commits one after the other; each is right by itself.

A pod's index holds what came by this pod, and a key has at most one document in it.
Belongs here: the port. Does not belong here: one index (`writing.py`), when the port is called
(`derived/keyed/projection.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from contracts.clock import Clock, utc_now
from contracts.errors import NotFoundError
from contracts.ids import aggregate_key
from contracts.settings import Settings
from derived.keyed.decoding import LatestEvent, content
from derived.keyed.rows import Absent, Content, Root, RootRow
from derived.keyed.store import Key, RefusedContentError, Standing, Stored
from derived.search.documents import ROOTS, document, key_of
from derived.search.folders import PodFolder, base_folder, pods_with_index
from derived.search.positions import Bookkeeping, StoredSkip
from derived.search.writing import PodWriting, Stand
from streams.parking import parked_together
from streams.projection import FencedError, ParkedEvent, PoisonEventError, Position, Work


class SearchStore:
    """The indexes of all pods; any number of threads may use it.

    `generations` names, for a pod, the generation to write instead of the current one.
    """

    def __init__(self, base: Path, *, generations: Mapping[str, Path] | None = None, clock: Clock = utc_now) -> None:
        self._base = base
        self._generations = generations or {}
        self._clock = clock

    @contextmanager
    def transaction(self) -> Iterator[SearchSession]:
        """Begin a transaction; commit at the end, nothing is written after an error."""
        session = self._session()
        try:
            yield session
            session.commit()
        finally:
            session.abandon()

    @contextmanager
    def snapshot(self) -> Iterator[SearchSession]:
        """Begin a transaction that only reads: of each pod one commit."""
        yield self._session()

    @contextmanager
    def trial(self) -> Iterator[SearchSession]:
        """Begin a transaction that is never committed."""
        session = self._session()
        try:
            yield session
        finally:
            session.abandon()

    def close(self) -> None:
        """Do nothing: no index stays open after its transaction."""

    def _session(self) -> SearchSession:
        def opened(pod: str) -> PodWriting:
            return PodWriting(PodFolder(self._base, pod), self._generations.get(pod))

        return SearchSession(opened, lambda: pods_with_index(self._base), self._clock)


class SearchSession:
    """One transaction; `KeyedSession` describes each method."""

    def __init__(self, opened: Callable[[str], PodWriting], known: Callable[[], list[str]], clock: Clock) -> None:
        self._open = opened
        self._known = known
        self._clock = clock
        self._pods: dict[str, PodWriting] = {}

    def commit(self) -> None:
        """Commit every pod that was written."""
        for pod in self._pods.values():
            pod.commit()

    def abandon(self) -> None:
        """Let go of all locks."""
        for pod in self._pods.values():
            pod.abandon()

    def positions(self, pod: str) -> Stored:
        """Return epoch and position of every partition that has one."""
        return self._pod(pod).books.stored()

    def lock_positions(self, pod: str, partitions: Sequence[int]) -> Stored:
        """Lock the pod's index and return the positions; create those of `partitions` that are missing."""
        locked = self._locked(pod)
        locked.books.ensure(list(partitions))
        return locked.books.stored()

    def move_positions(self, pod: str, epoch: str, positions: Mapping[int, Position], data_at: datetime) -> None:
        """Write new positions."""
        self._locked(pod).books.move(epoch, positions, data_at)

    def set_back(self, pod: str, standings: Mapping[int, Standing]) -> None:
        """Write earlier positions, and delete what was parked after them."""
        self._locked(pod).books.set_back(standings)

    def parked_keys(self, pod: str) -> frozenset[str]:
        """Return the aggregate keys that have parked events."""
        return frozenset(event.aggregate_key for event in self._pod(pod).books.parked.values())

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return the parked events, of these aggregates or of all, ordered by (cut, position)."""
        events = self._pod(pod).books.parked.values()
        chosen = (event for event in events if keys is None or event.aggregate_key in keys)
        return sorted(chosen, key=lambda event: (event.cut, event.position))

    def park_and_release(self, work: Work) -> None:
        """Delete the parked events of a step's released keys, then park its new ones."""
        books, held = self._locked(work.pod).books, self.parked_keys(work.pod)
        for key in work.released:
            if key not in held:
                raise FencedError(f"The parked events of {key} have been replayed by another.")
        books.parked = {name: event for name, event in books.parked.items() if event.aggregate_key not in work.released}
        gone = set(work.behind) - self.parked_keys(work.pod)
        if gone:
            raise FencedError(f"The parked events of {min(gone)} have been replayed meanwhile.")
        books.parked |= {event.event_id: event for event in work.parked}

    def park(self, pod: str, rows: Sequence[Mapping[str, Any]], error: str) -> None:
        """Park an aggregate's events (whole envelopes); the first of them cannot be applied because of `error`."""
        parked = parked_together(rows, error, self._clock())
        self._locked(pod).books.parked |= {event.event_id: event for event in parked}

    def skip(self, pod: str, event_id: str, *, reason: str, by: str) -> None:
        """Skip a parked event permanently; NotFoundError if it is not parked any more."""
        books = self._locked(pod).books
        event = books.parked.pop(event_id, None)
        if event is None:
            raise NotFoundError(f"Event {event_id} is not parked in search of {pod} any more; look at it again.")
        books.skipped[event_id] = StoredSkip(
            event_id=event_id,
            aggregate_key=event.aggregate_key,
            reason=reason,
            skipped_by=by,
            skipped_at=self._clock(),
            error=event.error,
            event=msgspec.Raw(msgspec.json.encode(event.event)),
        )

    def take_over(self, pod: str, books: Bookkeeping) -> None:
        """Begin an index where another one of the pod stands: its positions, and what was skipped."""
        mine = self._locked(pod).books
        mine.positions = dict(books.positions)
        mine.skipped = dict(books.skipped)

    def skipped_ids(self, pod: str) -> Sequence[str]:
        """Return the ids of the skipped events."""
        return sorted(self._pod(pod).books.skipped)

    def write(self, root: Root, written: Content) -> None:
        """Upsert rows: a row wins by a higher version, or by another epoch."""
        for gone in written.absent:
            self._remove_older(root, gone)
        for row in written.rows:
            self._write_newer(root, row)

    def insert(self, root: Root, written: Content) -> bool:
        """Insert rows; return False and write nothing if a key has a row already, or if a row cannot be stored."""
        if any(self._stand(root, row) is not None or _refusal(root, row) is not None for row in written.rows):
            return False
        self.write(root, written)
        return True

    def write_or_refuse(self, root: Root, events: Sequence[LatestEvent]) -> list[PoisonEventError]:
        """Write the events whose rows can be stored; return the others with the reasons."""
        refused = list[PoisonEventError]()
        for event in events:
            made = content(root, [event])
            reason = next((said for row in made.rows if (said := _refusal(root, row)) is not None), None)
            if reason is None:
                self.write(root, made)
            else:
                refused.append(PoisonEventError(event.event_id, f"its values cannot be stored: {reason}."))
        return refused

    def delete(self, root: Root, keys: Sequence[Key], pod: str) -> int:
        """Delete a pod's rows of these aggregates; return their number."""
        locked, gone = self._locked(pod), 0
        for key in _keys(root, keys):
            gone += locked.stand(root, key) is not None
            locked.remove(key)
        return gone

    def delete_pod(self, root: Root, pod: str, *, except_keys: Sequence[Key]) -> int:
        """Delete everything of a pod except `except_keys`; return the number of rows."""
        return self._locked(pod).empty(root, frozenset(_keys(root, except_keys)))

    def pods_of(self, root: Root, keys: Sequence[Key]) -> Mapping[str, set[Key]]:
        """Return pod -> those of these aggregates that have a row of that pod."""
        found = {
            name: {pair for pair, key in zip(keys, _keys(root, keys), strict=True) if pod.stand(root, key) is not None}
            for name, pod in self._all_pods().items()
        }
        return {name: pairs for name, pairs in found.items() if pairs}

    def digests(self, root: Root, keys: Sequence[Key]) -> set[tuple[str, ...]]:
        """Return (table, merchant_id, id, pod and digest of the row) for what is stored of these aggregates."""
        return {
            (root.table, *pair, f"{name} {stand.digest}")
            for name, pod in self._all_pods().items()
            for pair, key in zip(keys, _keys(root, keys), strict=True)
            if (stand := pod.stand(root, key)) is not None
        }

    def digest_of_pod(self, root: Root, pod: str) -> object:
        """Return a digest of a pod's rows, independent of their order."""
        return self._pod(pod).digest(root)

    def lock_sums(self, tables: Sequence[str]) -> None:
        """Do nothing: the index adds nothing up."""

    def sum_again(self, table: str, keys: Sequence[Key] | None) -> int:
        """Return 0: the index adds nothing up."""
        return 0

    def _write_newer(self, root: Root, row: RootRow) -> None:
        pod, stand = self._locked(row.pod), self._stand(root, row)
        if stand is not None and not _wins(stand, row):
            return
        try:
            pod.put(root, row)
        except (OverflowError, ValueError) as error:
            raise RefusedContentError(str(error)) from None

    def _remove_older(self, root: Root, gone: Absent) -> None:
        pod, key = self._locked(gone.pod), aggregate_key(gone.merchant_id, root.aggregate_type, gone.aggregate_id)
        stand = pod.stand(root, key)
        if stand is not None and (
            (stand.directory_epoch, stand.version) <= (gone.directory_epoch, gone.version) or stand.epoch != gone.epoch
        ):
            pod.remove(key)

    def _stand(self, root: Root, row: RootRow) -> Stand | None:
        return self._pod(row.pod).stand(root, key_of(root, row))

    def _pod(self, pod: str) -> PodWriting:
        if pod not in self._pods:
            self._pods[pod] = self._open(pod)
        return self._pods[pod]

    def _locked(self, pod: str) -> PodWriting:
        found = self._pod(pod)
        found.lock()
        return found

    def _all_pods(self) -> dict[str, PodWriting]:
        return {name: self._pod(name) for name in sorted({*self._known(), *self._pods})}


def document_counts(settings: Settings, pod: str) -> dict[str, int]:
    """Return kind of document -> number of a pod's documents."""
    opened = PodWriting(PodFolder(base_folder(settings), pod))
    return {root.table: len(opened.keys(root)) for root in ROOTS}


def _wins(stand: Stand, row: RootRow) -> bool:
    """Whether a row replaces what stands: by a higher version, or as one of another epoch of the same pod."""
    return (stand.directory_epoch, stand.version) < (row.directory_epoch, row.version) or stand.epoch != row.epoch


def _refusal(root: Root, row: RootRow) -> str | None:
    try:
        document(root, row)
    except (OverflowError, ValueError) as error:
        return str(error)
    return None


def _keys(root: Root, pairs: Sequence[Key]) -> list[str]:
    return [aggregate_key(merchant_id, root.aggregate_type, aggregate_id) for merchant_id, aggregate_id in pairs]
