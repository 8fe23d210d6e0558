"""Reads entries back from the log, the newest and those in doubt, one at a time, and checks them by their manifests.

Belongs here: fetching and checking entries. Does not belong here: what their events are compared with
(`reconcile/log_pairs.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter
from typing import TypeVar

import pyarrow as pa

from contracts.errors import ManifestMismatchError
from reconcile.context import LoggedEntry
from reconcile.log_checksum import STORED_COLUMNS, entry_checksum, slices

ENTRIES_MAX = 1_000
EVENTS_MAX = 100_000
"""Largest number of entries, and of events in them, that each run reads back from the log; the newest ones."""

Taken = TypeVar("Taken")

NO_ENTRY = "no entry"
"""Stands for the checksum of an entry whose bytes cannot be decoded."""

MOMENTS = ("occurred_at", "recorded_at")
NUMBERS = ("cut", "partition", "position", "aggregate_version", "schema_version", "directory_epoch")
KEPT_COLUMNS = tuple(name for name in STORED_COLUMNS if name != "payload")
"""The columns of an entry that are kept unchanged; of payloads we keep only the MD5."""


def newest(entries: list[LoggedEntry]) -> list[LoggedEntry]:
    """Return the newest entries that one run reads back: complete cuts within the limits, but at least one cut."""
    by_cut: dict[int, list[LoggedEntry]] = {}
    for entry in entries:
        by_cut.setdefault(entry.cut, []).append(entry)
    chosen: list[LoggedEntry] = []
    events = 0
    for _, of_cut in sorted(by_cut.items(), reverse=True):
        events += sum(entry.stated_events for entry in of_cut)
        if chosen and (len(chosen) + len(of_cut) > ENTRIES_MAX or events > EVENTS_MAX):
            break
        chosen += of_cut
    return chosen


class ReadBack:
    """Reads the newest of some entries back, one after the other, so that only one is in memory.

    `cuts`: those with a difference that is not settled. They are read back whatever their age, because a difference
    that nobody looked at again must not pass for one that is gone.
    """

    def __init__(self, pod: str, entries: list[LoggedEntry], cuts: Collection[int] = ()) -> None:
        self._pod = pod
        self._newest = newest(entries)
        lowest = min((entry.cut for entry in self._newest), default=0)
        self._older = [entry for entry in entries if entry.cut < lowest and entry.cut in cuts]
        self._entries = sorted([*self._older, *self._newest], key=attrgetter("cut", "partition", "chunk"))
        self.trimmed_cut = 0
        """The highest cut of which entries were trimmed meanwhile. Cuts up to it are not compared."""

    @property
    def lowest_cut(self) -> int | None:
        """The first of the newest cuts that are compared, all of them from there on; None when there is none."""
        return min((entry.cut for entry in self._newest if entry.cut > self.trimmed_cut), default=None)

    @property
    def older_cuts(self) -> list[int]:
        """The cuts before the newest that are compared, too."""
        return sorted({entry.cut for entry in self._older if entry.cut > self.trimmed_cut})

    def rows(self) -> pa.RecordBatchReader:
        """Return the events of all readable entries with their epoch, cut and partition, as a stream."""
        batches = (batch for events in self._taken(_placed) for batch in events.to_batches())
        return pa.RecordBatchReader.from_batches(_placed_schema(), batches)

    def checked(self) -> tuple[pa.Table, pa.Table]:
        """Return two tables of events and checksum by entry: as the manifests state them, and as read."""
        found = list(self._taken(lambda entry, events: (entry, *self._sum(entry, events))))
        stated = [(entry, entry.stated_events, entry.stated_checksum) for entry in self._entries]
        return self._table(stated), self._table(found)

    def _taken(self, take: Callable[[LoggedEntry, pa.Table | None], Taken]) -> Iterator[Taken]:
        """Yield the result of `take` for each entry in the log; `take` gets None for an unreadable one.

        No entry leaves this function, because a caller's variable would keep it in memory beside the next entry.
        """
        for entry in self._entries:
            try:
                events = entry.fetch()
            except ManifestMismatchError:
                yield take(entry, None)
                continue
            if events is not None:
                found = take(entry, events)
                # Return the memory to the system: Arrow would keep it, in addition to DuckDB's memory limit.
                del events
                pa.default_memory_pool().release_unused()
                yield found
            elif entry.is_trimmed():
                self.trimmed_cut = max(self.trimmed_cut, entry.cut)

    def _sum(self, entry: LoggedEntry, events: pa.Table | None) -> tuple[int, str]:
        if events is None:
            return 0, NO_ENTRY
        place = f"{self._pod}/{entry.epoch}/{entry.partition}/{entry.cut}/{entry.chunk}"
        return events.num_rows, entry_checksum(events, place)

    def _table(self, rows: list[tuple[LoggedEntry, int, str]]) -> pa.Table:
        rows = [row for row in rows if row[0].cut > self.trimmed_cut]
        names = ("cut", "partition", "chunk")
        keys = {name: pa.array([str(getattr(entry, name)) for entry, _, _ in rows], pa.string()) for name in names}
        events = pa.array([number for _, number, _ in rows], pa.int64())
        return pa.table({**keys, "events": events, "checksum": pa.array([text for _, _, text in rows], pa.string())})


def _placed(entry: LoggedEntry, events: pa.Table | None) -> pa.Table:
    if events is None:
        return _placed_schema().empty_table()
    placed = events.select(list(KEPT_COLUMNS))
    for name, value in (("epoch", entry.epoch), ("cut", entry.cut), ("partition", entry.partition)):
        placed = placed.append_column(name, pa.array([value] * events.num_rows))
    # As bytes, because a payload that is not valid UTF-8 must also get an MD5, so that it differs.
    payloads = slices(events.column("payload").cast(pa.binary()))
    digests = [_digest(payload) for part in payloads for payload in part]
    return placed.append_column("payload_md5", pa.array(digests, pa.string())).cast(_placed_schema())


def _digest(payload: bytes | None) -> str | None:
    """Return the same as `md5()` of a text in PostgreSQL and in DuckDB."""
    return None if payload is None else hashlib.md5(payload, usedforsecurity=False).hexdigest()


def _placed_schema() -> pa.Schema:
    kinds = {name: pa.timestamp("us", tz="UTC") for name in MOMENTS} | dict.fromkeys(NUMBERS, pa.int64())
    names = (*KEPT_COLUMNS, "epoch", "cut", "partition", "payload_md5")
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names])
