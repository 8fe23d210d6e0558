"""How a pod's streams stand: the log's own counters, which go on whatever is deleted.

Belongs here: these values. Does not belong here: reading them (`streams/log.py` and its adapters), and judging them
(`witness/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EntryNumber = tuple[int, int]
"""Cut and chunk of an entry; of a manifest, the cut and 0."""
NO_ENTRY: EntryNumber = (0, 0)


@dataclass(frozen=True, kw_only=True)
class StreamCounters:
    """One stream. Trimming and deleting move `length` and `first`; only deleting by id moves `deleted`."""

    added: int
    """How many entries were ever added."""
    length: int
    first: EntryNumber
    """The first entry that is there; NO_ENTRY when there is none."""
    last: EntryNumber
    """The last entry that was ever added."""
    deleted: EntryNumber
    """The highest entry that was deleted by its id; NO_ENTRY when none was."""


@dataclass(frozen=True, kw_only=True)
class StatedManifest:
    """A manifest as it is stored."""

    at: EntryNumber
    data: bytes


@dataclass(frozen=True, kw_only=True)
class LogCounters:
    """A pod's log at one moment."""

    server_run: str
    """The run of the server: another one after each start."""
    replacements: int
    """How many commands the server has executed, for whomever, that can put one stream in the place of another."""
    generation: int
    kept_from_cut: int
    """Cuts below this one were trimmed, or are being trimmed; 0 when nothing ever was."""
    manifests: StreamCounters | None
    """None when there is no such stream."""
    entries: Mapping[tuple[int, int], StreamCounters]
    """(generation, partition) -> its stream; without those that are not there."""
    later: tuple[StatedManifest, ...]
    """The manifests after the cut that was asked for, in order."""
    said: str
    """The newest heartbeat of the witness; empty when there is none."""
