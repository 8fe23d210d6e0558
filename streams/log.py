"""The log, which a relay appends to and consumers read (ARCHITECTURE.md): the port and its values.

Belongs here: entries, manifests, tails, and the operations that every log must have. Does not belong here: a particular
server (`streams/valkey_log.py`), or the encoding of an entry's bytes (`streams/codec.py`).

One stream per (pod, partition) holds entries, numbered `<cut>-<chunk>`. One stream per pod holds a manifest per cut,
which names every entry of the cut. Only entries that a manifest names are published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from contracts.errors import LogDivergedError
from streams.counters import LogCounters, StatedManifest

ANSWER_SECONDS = 30.0
"""So long an answer is waited for where whoever asks does not say how long."""

PAGE = 1_000
"""Manifests are read so many at a time."""


class ChunkManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Number of events and checksum of one entry, as its manifest states them."""

    events: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of one cut: for each partition its chunks, in order; an empty tuple for a partition without events.

    All fields except `generation` and `published_at` are a function of the cut, so recomputing them gives equal values.
    """

    cut: int
    epoch: str
    snapshot: str
    registered_at: datetime
    partition_function: str
    chunk_rows: int
    codec: str
    partitions: tuple[tuple[ChunkManifest, ...], ...]
    oldest_recorded_at: datetime | None
    """When the oldest event of the cut was recorded; None for an empty cut."""
    generation: int
    """The generation of the partitions' streams that holds the entries."""
    published_at: datetime
    follows_epoch: str | None = None
    """The previous cut's epoch, when this cut begins another one. Without it, consumers refuse the new epoch."""

    @property
    def events(self) -> int:
        """Number of events in the cut."""
        return sum(chunk.events for chunks in self.partitions for chunk in chunks)

    def says_the_same_as(self, other: Manifest) -> bool:
        """Return whether both describe the same events in the same entries, in any generation."""
        return msgspec.structs.replace(self, generation=other.generation, published_at=other.published_at) == other


@dataclass(frozen=True, kw_only=True)
class EntryId:
    """The place of an entry in a pod's log."""

    generation: int
    partition: int
    cut: int
    chunk: int


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """An entry to append. By `checksum`, that of the decoded events, we recognize an entry that is already there."""

    at: EntryId
    epoch: str
    events: int
    checksum: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class LogTail:
    """The ends of a pod's streams. Cut 0 means that nothing was ever appended."""

    generation: int
    manifest_cut: int
    manifest: Manifest | None
    """The last manifest that a relay wrote; None when the log keeps no manifest."""
    entry_cuts: Mapping[int, int]
    """Partition -> the cut of the last entry that was ever appended."""
    strangers: tuple[str, ...] = ()
    """Where the newest entry of a stream is none of a relay's, one text each."""

    @property
    def own_cut(self) -> int:
        """The last cut that a relay published: what readers have to wait for, also behind entries of strangers."""
        return self.manifest.cut if self.strangers and self.manifest else self.manifest_cut


def written_by_strangers(pod: str, strangers: Sequence[str], from_cut: int) -> LogDivergedError:
    """Return the error that a relay raises when entries of others stand where it must append."""
    return LogDivergedError(
        f"The log of pod {pod} has entries that no relay wrote ({', '.join(strangers)}), and nothing can be added "
        f"before them. `tieout republish {pod} --from-cut {from_cut}` begins a new generation without them."
    )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a registered projection has applied a pod, as it last reported."""

    projection: str
    applied_cut: int
    reported_at: datetime


@dataclass(frozen=True, kw_only=True)
class TrimResult:
    """The result of trimming: cuts below `kept_from_cut` are gone; `ignored` projections must rebuild."""

    kept_from_cut: int
    removed_entries: int
    ignored: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LogMemory:
    """What the log's server holds in memory, and may hold."""

    used_bytes: int
    limit_bytes: int | None
    """None where nobody has set a limit: then the server takes entries until its machine has no memory left."""
    machine_bytes: int

    @property
    def is_full(self) -> bool:
        """Whether the server has reached its limit: it takes no entries until the log is trimmed."""
        return self.limit_bytes is not None and self.used_bytes >= self.limit_bytes


def entry_place(pod: str, epoch: str, at: EntryId) -> str:
    """Return the text of an entry's place, which is part of the entry's checksum."""
    return f"{pod}/{epoch}/{at.partition}/{at.cut}/{at.chunk}"


class EventLog(Protocol):
    """The operations that Tieout needs of a log. Every call has a time limit.

    Each method states when it raises LogDivergedError and LogGapError. Every method that asks the server raises
    LogUnavailableError when the server does not answer, refuses the request, or its memory is full.
    """

    def tail(self, pod: str, partition_count: int) -> LogTail:
        """Return where the streams of the current generation end."""

    def append(self, pod: str, entries: Sequence[LogEntry]) -> None:
        """Append entries in order. It is idempotent: an entry that is already there with the same checksum is skipped.

        Raises LogDivergedError when other events have an entry's id, or when the stream is past the id without such an
        entry.
        """

    def append_manifest(self, pod: str, manifest: Manifest, *, is_staged: bool = False) -> None:
        """Append the manifest of a cut whose entries are all appended; idempotent, LogDivergedError as for entries.

        Consumers see staged manifests only after `switch_generation`.
        """

    def manifests(self, pod: str, after_cut: int, *, limit: int, block_milliseconds: int = 0) -> list[Manifest]:
        """Return up to `limit` manifests of cuts after `after_cut`, in order; wait for the first one if asked to."""

    def fetch(self, pod: str, entries: Sequence[EntryId]) -> list[bytes]:
        """Return the bytes of exactly these entries; LogGapError when one is missing."""

    def begin_generation(self, pod: str, from_cut: int) -> int:
        """Return the number of a new, empty generation that will hold the cuts from `from_cut` on.

        Deletes what an unfinished republication left, and copies the manifests of earlier cuts.
        """

    def switch_generation(self, pod: str, generation: int) -> None:
        """Make the staged manifests of `generation` the pod's manifests, atomically."""

    def retract(self, pod: str, after_cut: int) -> None:
        """Make the pod's log end at `after_cut`, in a new generation; later manifests are kept aside."""

    def retracted(self, pod: str) -> list[Manifest]:
        """Return the manifests that were kept aside, ordered by cut; their entries can still be fetched."""

    def forget_retracted(self, pod: str) -> None:
        """Delete the manifests that were kept aside; call it when their events are stored elsewhere."""

    def report_progress(self, pod: str, progress: Progress) -> None:
        """Register a projection, or update its position."""

    def forget_projection(self, pod: str, projection: str) -> None:
        """Remove a projection that no longer exists, so that trimming does not wait for it."""

    def progress(self, pod: str) -> list[Progress]:
        """Return every registered projection of a pod, by name."""

    def trim(self, pod: str, kept_from_cut: int) -> int:
        """Remove manifests and entries of cuts below `kept_from_cut`; return the number of removed entries."""

    def counters(self, pod: str, streams: Collection[tuple[int, int]], after_cut: int, *, limit: int) -> LogCounters:
        """Return how streams, by (generation, partition), stand at one moment, and up to `limit` manifests after a cut.

        For the witness; whoever reads events asks for manifests and fetches entries.
        """

    def stated(self, pod: str, from_cut: int, through_cut: int, *, limit: int) -> list[StatedManifest]:
        """Return up to `limit` manifests of these cuts in order, as they are stored, readable or not."""

    def beat(self, pod: str, said: str) -> None:
        """Append a heartbeat, also when the server's memory is full; the newest one comes with the counters."""

    def ping(self) -> None:
        """Ask for any answer. LogUnavailableError also while the server starts, and if its password is another one."""

    def memory(self) -> LogMemory:
        """Return how much memory the server uses."""

    def is_reading(self, words: Sequence[str]) -> bool:
        """Return whether a command in the server's own language is known to change nothing. Asks nobody."""

    def ask(self, words: Sequence[str | bytes]) -> list[str]:
        """Send the server a command in its own language; return the lines of its answer. InputError: it refuses it.

        For people who look, and for drills that do harm. What Tieout does all the time has a call of its own.
        """

    def close(self) -> None:
        """Close the connections."""


def manifests_after(log: EventLog, pod: str, cut: int) -> Iterator[Manifest]:
    """Yield every manifest after a cut, a page at a time."""
    while page := log.manifests(pod, cut, limit=PAGE):
        yield from page
        cut = page[-1].cut


def first_kept_cut(log: EventLog, pod: str) -> int:
    """Return the lowest cut of `pod` with a manifest in the log; 0: there is none."""
    return next((manifest.cut for manifest in log.manifests(pod, 0, limit=1)), 0)
