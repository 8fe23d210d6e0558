"""Reading back what is in the log: the newest entries, one at a time, against what their manifests say of them.

Belongs here: fetching and checking entries. Does not belong here: what their events are compared with
(`reconcile/log_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from contracts.errors import ManifestMismatchError
from reconcile.context import LoggedEntry
from reconcile.log_checksum import STORED_COLUMNS, entry_checksum

ENTRIES_MAX = 1_000
EVENTS_MAX = 100_000
"""Of how many of the newest entries, and events in them, the content is read back from the log in each run."""

NO_ENTRY = "no entry"
"""In place of a checksum: what is there cannot be read."""

MOMENTS = ("occurred_at", "recorded_at")
NUMBERS = ("cut", "partition", "position", "aggregate_version", "schema_version")


def newest(entries: list[LoggedEntry]) -> list[LoggedEntry]:
    """Return the newest entries, as many as are read back in one run; all of a cut or none, but at least one cut."""
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
    """Reads entries back one after the other, so that one at a time is held."""

    def __init__(self, pod: str, entries: list[LoggedEntry]) -> None:
        self._pod = pod
        self._entries = entries
        self.trimmed_cut = 0
        """The highest cut that trimming took entries of, meanwhile: nothing is said of it and those before."""

    @property
    def lowest_cut(self) -> int | None:
        """The first cut of which anything is said, if there is one."""
        return min((entry.cut for entry in self._entries if entry.cut > self.trimmed_cut), default=None)

    def rows(self) -> pa.RecordBatchReader:
        """Return the events of all entries that can be read with their cut and partition, as a stream."""
        batches = (
            batch
            for entry, events in self._fetched()
            if events is not None
            for batch in _placed(entry, events).to_batches()
        )
        return pa.RecordBatchReader.from_batches(_placed_schema(), batches)

    def checked(self) -> tuple[pa.Table, pa.Table]:
        """Return number of events and checksum by entry: as the manifests state them, and as they are."""
        found = [(entry, *self._sum(entry, events)) for entry, events in self._fetched()]
        stated = [(entry, entry.stated_events, entry.stated_checksum) for entry in self._entries]
        return self._table(stated), self._table(found)

    def _fetched(self) -> Iterator[tuple[LoggedEntry, pa.Table | None]]:
        """Yield the entries that are there; None for one that is there and cannot be read."""
        for entry in self._entries:
            try:
                events = entry.fetch()
            except ManifestMismatchError:
                yield entry, None
                continue
            if events is not None:
                yield entry, events
                # Arrow would keep what it freed, besides all that DuckDB may take.
                del events
                pa.default_memory_pool().release_unused()
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


def _placed(entry: LoggedEntry, events: pa.Table) -> pa.Table:
    placed = events.select(list(STORED_COLUMNS))
    for name, value in (("cut", entry.cut), ("partition", entry.partition)):
        placed = placed.append_column(name, pa.array([value] * events.num_rows, pa.int64()))
    return placed.cast(_placed_schema())


def _placed_schema() -> pa.Schema:
    kinds = {name: pa.timestamp("us", tz="UTC") for name in MOMENTS} | dict.fromkeys(NUMBERS, pa.int64())
    return pa.schema([(name, kinds.get(name, pa.string())) for name in (*STORED_COLUMNS, "cut", "partition")])
