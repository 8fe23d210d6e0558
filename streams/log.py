"""The log: what a relay appends and consumers read (ARCHITECTURE.md). The port, and the values it speaks in.

Belongs here: entries, manifests, tails and what any log must do with them. Does not belong here: a particular server
(`streams/valkey_log.py`), or what an entry's bytes mean (`streams/codec.py`).

One stream per (pod, partition) holds entries, numbered `<cut>-<chunk>`; one stream per pod holds a manifest per cut,
which names every entry of it. Only what a manifest names counts as published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

ANSWER_SECONDS = 30.0
"""So long an answer is waited for where whoever asks does not say how long."""


class ChunkManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as its manifest states it."""

    events: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What one cut consists of: for each partition its chunks, in order; an empty tuple where it has no events.

    All but `generation` and `published_at` is a function of the cut, so it is equal however often it is computed.
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
    """Which generation of the partitions' streams holds the entries."""
    published_at: datetime
    follows_epoch: str | None = None
    """The epoch of the cut before, when another one was opened with this cut; a consumer goes on only if it is told."""

    @property
    def events(self) -> int:
        """How many events the cut has."""
        return sum(chunk.events for chunks in self.partitions for chunk in chunks)

    def says_the_same_as(self, other: Manifest) -> bool:
        """Whether both describe the same events in the same entries, wherever and whenever those were written."""
        return msgspec.structs.replace(self, generation=other.generation, published_at=other.published_at) == other


@dataclass(frozen=True, kw_only=True)
class EntryId:
    """Where an entry is."""

    generation: int
    partition: int
    cut: int
    chunk: int


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """An entry to append. `checksum` is that of its decoded events, by which an earlier copy is recognized."""

    at: EntryId
    epoch: str
    events: int
    checksum: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class LogTail:
    """Where a pod's streams actually end. Cut 0 means: nothing was ever appended."""

    generation: int
    manifest_cut: int
    manifest: Manifest | None
    """The last manifest, unless none is kept."""
    entry_cuts: Mapping[int, int]
    """By partition: the cut of the last entry ever appended."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a registered projection has applied a pod, as it last reported."""

    projection: str
    applied_cut: int
    reported_at: datetime


@dataclass(frozen=True, kw_only=True)
class TrimResult:
    """What trimming did: nothing below `kept_from_cut` is kept; `ignored` projections were stuck and must rebuild."""

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
    """Return the words that a checksum binds an entry's events to."""
    return f"{pod}/{epoch}/{at.partition}/{at.cut}/{at.chunk}"


class EventLog(Protocol):
    """What Tieout needs of a log. Every call is bounded; raises LogDivergedError and LogGapError as stated.

    LogUnavailableError from every call that asks the server: it does not answer, refuses what it is asked, or takes no
    entries for want of memory.
    """

    def tail(self, pod: str, partition_count: int) -> LogTail:
        """Return where the streams of the current generation end."""

    def append(self, pod: str, entries: Sequence[LogEntry]) -> None:
        """Append entries in order; one that is there already with the same checksum is fine.

        Raises LogDivergedError when the id is taken by other events, or passed without an entry.
        """

    def append_manifest(self, pod: str, manifest: Manifest, *, is_staged: bool = False) -> None:
        """Append the manifest of a cut whose entries are all appended; LogDivergedError as for entries.

        Staged manifests become visible only with `switch_generation`.
        """

    def manifests(self, pod: str, after_cut: int, *, limit: int, block_milliseconds: int = 0) -> list[Manifest]:
        """Return up to `limit` manifests of cuts after `after_cut`, in order; wait for the first one if asked to."""

    def fetch(self, pod: str, entries: Sequence[EntryId]) -> list[bytes]:
        """Return the bytes of exactly these entries; LogGapError when one is missing."""

    def begin_generation(self, pod: str, from_cut: int) -> int:
        """Return the number of a new, empty generation that will hold the cuts from `from_cut` on.

        Clears what an unfinished republication left; takes over the manifests of earlier cuts.
        """

    def switch_generation(self, pod: str, generation: int) -> None:
        """Make the staged manifests of `generation` the pod's manifests, at once."""

    def retract(self, pod: str, after_cut: int) -> None:
        """Let the pod's log end at `after_cut`, in a new generation; later manifests are set aside, not lost."""

    def retracted(self, pod: str) -> list[Manifest]:
        """Return the manifests that were set aside, by cut; their entries are where they were."""

    def forget_retracted(self, pod: str) -> None:
        """Drop the manifests that were set aside, when their events are kept elsewhere."""

    def report_progress(self, pod: str, progress: Progress) -> None:
        """Register a projection, or how far it is now."""

    def forget_projection(self, pod: str, projection: str) -> None:
        """Remove a projection that no longer exists, so that it does not hold trimming back."""

    def progress(self, pod: str) -> list[Progress]:
        """Return every registered projection of a pod, by name."""

    def trim(self, pod: str, kept_from_cut: int) -> int:
        """Remove manifests and entries of cuts below `kept_from_cut`; return how many entries went."""

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
        """Let connections go."""
