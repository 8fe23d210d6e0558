"""A keyed copy as a projection of the log: `apply` from the log and `rebuild` from the lake, side by side.

It does not depend on a store: the store behind the port keeps rows, parked events and positions in one transaction.
Belongs here: what is applied, parked and rebuilt, and in which order. Does not belong here: statements (the stores),
which tables a copy has (modules named after it).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import PropagationError
from contracts.ids import aggregate_key, key_of_row
from contracts.settings import Settings
from contracts.text import counted
from derived.keyed.decoding import LatestEvent, content, latest_events, split_readable
from derived.keyed.lake_reading import LakeReading, ReadingAlone, Wanted
from derived.keyed.rebuilding import Rebuilt
from derived.keyed.rows import Root
from derived.keyed.standings import earlier_standings
from derived.keyed.store import Key, KeyedSession, KeyedStore, RefusedContentError, Stored
from derived.keyed.strangers import delete_strangers
from derived.step_checks import check_expected, fresh_entries, furthest_epoch
from streams.parking import aggregate_keys
from streams.projection import (
    START,
    EpochOpening,
    ParkedEvent,
    PoisonEventError,
    Position,
    ProjectionState,
    Work,
)

if TYPE_CHECKING:
    import duckdb

POLL_SECONDS = 0.2
ALONE = ReadingAlone()


class KeyedProjection:
    """A projection into a store with rows per aggregate; any number of threads may use it.

    `sums` are tables in which the store itself adds up rows; a row of a sum has a key, too, whose type is the table's
    name. `open_lake` returns a connection to the lake; only rebuilding needs it.
    """

    def __init__(
        self,
        *,
        name: str,
        roots: Sequence[Root],
        store: KeyedStore,
        open_lake: Callable[[], duckdb.DuckDBPyConnection],
        sums: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._roots = {root.aggregate_type: root for root in roots}
        self._sums = tuple(sums)
        self._store = store
        self._open_lake = open_lake

    def state(self, pod: str) -> ProjectionState:
        """Return positions and parked keys of `pod`, both from one snapshot."""
        with self._store.snapshot() as session:
            stored = session.positions(pod)
            keys = session.parked_keys(pod)
        positions = {partition: position for partition, (_, position) in stored.items() if position != START}
        return ProjectionState(epoch=furthest_epoch(stored), positions=positions, parked_keys=keys)

    def apply(self, work: Work) -> None:
        """Apply one step in one transaction: rows (guarded by version), parked events and positions."""
        try:
            with self._store.transaction() as session:
                check_expected(work, session.lock_positions(work.pod, list(work.positions)))
                self._write(session, [entry.events for entry in fresh_entries(work)])
                session.park_and_release(work)
                session.move_positions(work.pod, work.epoch, work.positions, work.data_at)
        except (PoisonEventError, RefusedContentError) as error:
            if poison := self._poison(work):
                raise PoisonEventError.of_all(poison) from None
            raise PropagationError(f"{self.name}: {error}") from None

    def rebuild(self, pod: str, keys: Sequence[str], *, deadline_seconds: float = 60.0) -> Rebuilt:
        """Make the rows of these aggregate keys equal to the lake as of the view's own position.

        Locks the position, so it cannot run at the same time as `apply`. Keys that the lake does not know lose their
        rows; sums are added up again. Of a key whose merchant has moved, the events of its other pods count, too, as of
        the view's positions there; else a wrong row of one pod could stand in the way of the right one of another.
        Raises PropagationError if the lake does not reach the positions in time; nothing is changed then.
        """
        with self._store.transaction() as session:
            pods = self._pods_of(pod, keys)
            positions = {one: _positions(session.lock_positions(one, [])) for one in pods}
            parked = frozenset[str]().union(*(session.parked_keys(one) for one in pods))
            wanted = sorted(set(keys) - parked)
            kinds, sums = self._by_root(wanted), self._by_sum(wanted)
            session.lock_sums([table for table, _ in sums])
            summed = sum(session.sum_again(table, pairs) for table, pairs in sums)
            stood = {digest for root, pairs in kinds for digest in session.digests(root, pairs)}
            before = sum(session.delete(root, pairs, one) for one in pods for root, pairs in kinds)
            aggregates = 0
            if kinds:
                with self._lake_at(positions, deadline_seconds) as lake:
                    before += delete_strangers(session, lake, kinds)
                    for one, position in positions.items():
                        aggregates += self._write_from_lake(session, lake, one, position, wanted, frozenset())
            stands = {digest for root, pairs in kinds for digest in session.digests(root, pairs)}
        return Rebuilt(
            aggregates=aggregates,
            rows_before=before,
            skipped_keys=tuple(sorted(set(keys) & parked)),
            position=positions[pod],
            changed=len({digest[1:3] for digest in stood ^ stands}) + summed,
        )

    def rebuild_all(
        self,
        pod: str,
        *,
        is_lake_position_taken: bool = False,
        is_change_told: bool = False,
        deadline_seconds: float = 60.0,
        reading: LakeReading = ALONE,
    ) -> Rebuilt:
        """Make everything of `pod` equal to the lake as of the view's own position; parked keys are not changed.

        With `is_lake_position_taken` the view first takes the lake's position: for a store that was lost, or that is
        behind the log's oldest entry. This is refused (PropagationError) while keys are parked, because their events
        would be skipped. `reading` reads the lake, alone or together with rebuilds of other views.
        """
        with self._store.transaction() as session:
            stored: Mapping[int, Position] = _positions(session.lock_positions(pod, []))
            # Lock and correct the sums before rows are deleted: if all rows of a sum are deleted and written again,
            # that alone makes the sum right, and the change would not be counted.
            session.lock_sums(self._sums)
            summed = sum(session.sum_again(table, None) for table in self._sums)
            parked = session.parked_keys(pod)
            position = (
                self._take_lake_position(session, pod, stored, parked, reading) if is_lake_position_taken else stored
            )
            stood = (stored, self._digest_of_pod(session, pod)) if is_change_told else None
            before = self._delete_pod(session, pod, parked)
            with self._lake_at({pod: position}, deadline_seconds) as lake:
                aggregates = self._write_from_lake(session, lake, pod, position, None, parked, reading)
            stands = (position, self._digest_of_pod(session, pod)) if is_change_told else None
        is_same = stood == stands and not summed
        return Rebuilt(
            aggregates=aggregates,
            rows_before=before,
            skipped_keys=tuple(sorted(parked)),
            position=position,
            changed=None if not is_change_told else 0 if is_same else max(before, aggregates, summed),
        )

    def _pods_of(self, pod: str, keys: Sequence[str]) -> list[str]:
        """Return `pod` and the other pods that have sent events of these aggregates, in the order of locking."""
        from derived.lake_reads import pods_of_moved

        if not self._by_root(keys):
            return [pod]
        with self._open_lake() as lake:
            return sorted({pod, *pods_of_moved(lake, keys)})

    def _by_root(self, keys: Sequence[str]) -> list[tuple[Root, list[Key]]]:
        return [(self._roots[kind], pairs) for kind, pairs in _by_type(keys) if kind in self._roots]

    def _by_sum(self, keys: Sequence[str]) -> list[tuple[str, list[Key]]]:
        return [(kind, pairs) for kind, pairs in _by_type(keys) if kind in self._sums]

    def _digest_of_pod(self, session: KeyedSession, pod: str) -> tuple[object, ...]:
        return tuple(session.digest_of_pod(root, pod) for root in self._roots.values())

    def _delete_pod(self, session: KeyedSession, pod: str, parked: frozenset[str]) -> int:
        """Delete everything of a pod except parked keys; return the number of root rows."""
        kept = dict(_by_type(sorted(parked)))
        return sum(session.delete_pod(root, pod, except_keys=kept.get(kind, [])) for kind, root in self._roots.items())

    def take_back(self, pod: str, opening: EpochOpening, *, base_at: datetime | None) -> int | None:
        """Make everything of `pod` equal to the lake at the opening's base; return its root rows, None if unchanged.

        The lake was taken back before. If the lake is behind the base, the view goes back to the lake's position. A
        view that is not beyond the base keeps its rows. `base_at` is when the base cut was registered.
        """
        with self._store.transaction() as session, self._open_lake() as lake:
            stored = session.lock_positions(pod, [])
            earlier = earlier_standings(stored, lake, pod, opening, base_at)
            session.set_back(pod, earlier)
            if not any(stored[partition][1] > item.position for partition, item in earlier.items()):
                return None
            parked = session.parked_keys(pod)
            self._delete_pod(session, pod, parked)
            position = _positions(session.positions(pod))
            return self._write_from_lake(session, lake, pod, position, None, parked)

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return the parked events of `pod`, of these aggregates or of all, ordered by (cut, position)."""
        with self._store.transaction() as session:
            return session.parked_events(pod, keys)

    def skip(self, pod: str, event_id: str, *, reason: str, by: str) -> None:
        """Skip a parked event permanently, as a person decided; NotFoundError if it is not parked any more."""
        with self._store.transaction() as session:
            session.lock_positions(pod, [])
            session.skip(pod, event_id, reason=reason, by=by)

    def recovery_command(self, pod: str, applied_cut: int) -> str:
        """Return the command for people if the log no longer has the cuts after `applied_cut`; the lake has them."""
        return f"tieout rebuild {self.name} --pod {pod}"

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        self._store.close()

    def _write(self, session: KeyedSession, batches: Sequence[pa.Table | pa.RecordBatch]) -> int:
        aggregates = 0
        for root in self._roots.values():
            events = latest_events(root, batches)
            if events:
                session.write(root, content(root, events))
            aggregates += len(events)
        return aggregates

    def _write_from_lake(
        self,
        session: KeyedSession,
        lake: duckdb.DuckDBPyConnection,
        pod: str,
        position: Mapping[int, Position],
        keys: Sequence[str] | None,
        except_keys: frozenset[str],
        reading: LakeReading = ALONE,
    ) -> int:
        from derived.lake_reads import read_events

        aggregates, unreadable = 0, list[str]()
        wanted = Wanted(
            pod=pod,
            position=position,
            aggregate_types=tuple(self._roots),
            leave_out=tuple(session.skipped_ids(pod)),
            keys=None if keys is None else tuple(keys),
        )
        with reading.newest(lake, wanted) as read:
            for batch, root in ((batch, root) for batch in read for root in self._roots.values()):
                events = latest_events(root, [_without(batch, except_keys)])
                aggregates += len(events)
                unreadable += _write_readable(session, root, events)
        if unreadable:
            history = read_events(lake, pod, unreadable, position, leave_out=wanted.leave_out).read_all()
            self._park_unreadable(session, history, pod)
        return aggregates

    def _park_unreadable(self, session: KeyedSession, history: pa.Table, pod: str) -> None:
        """Park keys that end in an unreadable event, with the same result as following the log.

        The newest state before the first such event is kept; that event and all later ones are parked.
        """
        names = ("merchant_id", "aggregate_id", "directory_epoch", "aggregate_version")
        order = [(name, "ascending") for name in names]
        for key, group in groupby(history.sort_by(order).to_pylist(), key=key_of_row):
            rows, root = list(group), self._roots[_type_of(key)]
            events = [LatestEvent._make(row[name] for name in LatestEvent._fields) for row in rows]
            # Write each event that can be stored; the last one before the first that cannot remains.
            found = (_poison_of(session, root, [event]) for event in events)
            first, poison = next((index, one) for index, one in enumerate(found) if one)
            session.park(pod, rows[first:], str(poison[0]))

    @contextmanager
    def _lake_at(
        self, positions: Mapping[str, Mapping[int, Position]], deadline_seconds: float
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        from derived.lake_reads import has_reached

        deadline = time.monotonic() + deadline_seconds
        with self._open_lake() as lake:
            for pod, position in positions.items():
                while not has_reached(lake, pod, position):
                    if time.monotonic() > deadline:
                        raise PropagationError(
                            f"The lake did not reach the position of {self.name} in pod {pod} within "
                            f"{deadline_seconds:g} s; nothing was rebuilt. Does the lake's worker run (`tieout "
                            "status`)?"
                        )
                    time.sleep(POLL_SECONDS)
            yield lake

    def _take_lake_position(
        self,
        session: KeyedSession,
        pod: str,
        position: Mapping[int, Position],
        parked: frozenset[str],
        reading: LakeReading,
    ) -> Mapping[int, Position]:
        if parked:
            raise PropagationError(
                f"{self.name} has {counted(len(parked), 'parked aggregate')} of pod {pod}; replay them "
                f"(`tieout parked retry {self.name}`) before it takes the lake's position."
            )
        with self._open_lake() as lake:
            progress = reading.progress(lake, pod)
        if progress.epoch is None or progress.data_at is None:
            return position
        session.lock_positions(pod, list(progress.positions))
        session.move_positions(pod, progress.epoch, progress.positions, progress.data_at)
        return progress.positions

    def _poison(self, work: Work) -> list[PoisonEventError]:
        """Find the events that cannot be read or that the store refuses: write halves of the step, and roll back."""
        entries = [entry.events for entry in fresh_entries(work)]
        with self._store.trial() as session:
            return [
                poison
                for root in self._roots.values()
                for poison in _poison_of(session, root, latest_events(root, entries))
            ]


def _write_readable(session: KeyedSession, root: Root, events: Sequence[LatestEvent]) -> list[str]:
    """Write the events that can be read and stored; return the aggregate keys of the others."""
    try:
        readable, poison = events, list[PoisonEventError]()
        known = content(root, events)
    except PoisonEventError:
        readable, poison = split_readable(root, events)
        known = content(root, readable)
    # The rows of these keys were deleted before, so a conflict can only be with a row of another pod.
    if not session.insert(root, known):
        poison += session.write_or_refuse(root, readable)
    bad = {one.event_id for one in poison}
    return [
        aggregate_key(event.merchant_id, root.aggregate_type, event.aggregate_id)
        for event in events
        if event.event_id in bad
    ]


def _poison_of(session: KeyedSession, root: Root, events: Sequence[LatestEvent]) -> list[PoisonEventError]:
    readable, poison = split_readable(root, events)
    return [*poison, *session.write_or_refuse(root, readable)]


def lake_opener(settings: Settings) -> Callable[[], duckdb.DuckDBPyConnection]:
    """Return a function that opens the lake for reading. It imports DuckDB when called, so workers do not load it."""

    def open_lake() -> duckdb.DuckDBPyConnection:
        from derived.lake_connection import open_lake

        return open_lake(settings, read_only=True)

    return open_lake


def _positions(stored: Stored) -> dict[int, Position]:
    return {partition: position for partition, (_, position) in stored.items()}


def _type_of(key: str) -> str:
    return key.split("/", 2)[1]


def _by_type(keys: Sequence[str]) -> list[tuple[str, list[Key]]]:
    """Return the (merchant_id, id) of aggregate keys by their type."""
    groups = groupby(sorted(keys, key=_type_of), key=_type_of)
    return [(kind, [_key_pair(key) for key in group]) for kind, group in groups]


def _key_pair(key: str) -> tuple[str, str]:
    merchant_id, _, aggregate_id = key.split("/", 2)
    return merchant_id, aggregate_id


def _without(batch: pa.RecordBatch, keys: frozenset[str]) -> pa.RecordBatch:
    if not keys:
        return batch
    is_kept = pc.invert(pc.is_in(aggregate_keys(batch), value_set=pa.array(sorted(keys), pa.string())))
    return batch.filter(is_kept)
