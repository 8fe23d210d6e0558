"""What the witness of the log saw last of a pod's streams, and what of the next counters does not follow from it.

Pure. Belongs here: the counters that manifests, trimming and generations explain. Does not belong here: asking the log
(`witness/log.py`), the content of manifests and entries (`witness/log_content.py`).

Every entry that was ever appended is named by a manifest, or belongs to the one cut whose manifest comes next. So of a
stream in the current generation: added = told by manifests + the chunks of that cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from contracts.ownership import LOG
from contracts.sightings import Sighting, SightingKind
from contracts.text import counted
from streams.counters import NO_ENTRY, EntryNumber, LogCounters, StreamCounters
from streams.log import Manifest

NAME = "log"
MANIFESTS = "manifests"
Place = tuple[int, int]
"""Generation and partition of a stream of entries."""


class SeenStream(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One stream as it was seen last. `told`: how many of its entries are explained."""

    added: int
    first: EntryNumber
    last: EntryNumber
    deleted: EntryNumber
    told: int = 0


class SeenLog(msgspec.Struct, frozen=True, kw_only=True):
    """A pod's log as it was seen last; stored as the witness's position."""

    server_run: str
    replacements: int
    generation: int
    kept_from_cut: int
    manifests: SeenStream | None
    entries: dict[str, SeenStream]
    """`<generation>/<partition>` -> its stream."""
    named_until: dict[int, int] = {}
    """Generation -> the last cut whose manifest names it: it is looked at until that manifest is trimmed."""
    blocks: dict[int, tuple[int, int]] = {}
    """First cut of a block of manifests -> how many, and the sum of their digests (`witness/log_content.py`)."""

    @property
    def manifest_cut(self) -> int:
        """The cut of the last manifest; 0 when there was none."""
        return self.manifests.last[0] if self.manifests else 0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that the counters do not explain; `place` is a stream."""

    kind: SightingKind
    place: str
    what: str

    def sighting(self, pod: str, transaction: str) -> Sighting:
        """Return it as the reconciler takes it: the whole log of the pod is to be compared."""
        return Sighting(
            witness=NAME,
            kind=self.kind,
            pod=pod,
            copy=LOG.name,
            place=self.place,
            what=self.what,
            transaction=transaction,
        )


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A stream whose beginning moved past what trimming explains, unless no manifest since names an entry before it."""

    place: Place
    before: EntryNumber
    """Where it begins now; where the next cut's entries begin when nothing is left."""


def lost(place: str, what: str) -> Finding:
    """Return a finding of something that is not there any more, or is not what it was."""
    return Finding(kind=SightingKind.LOST, place=place, what=what)


def stranger(place: str, what: str) -> Finding:
    """Return a finding of something that no relay has written."""
    return Finding(kind=SightingKind.UNANNOUNCED, place=place, what=what)


def stream_name(place: Place) -> str:
    """Return a stream's name for people."""
    return f"partition {place[1]} in generation {place[0]}"


def place_key(place: Place) -> str:
    """Return a stream's key in the stored position."""
    return f"{place[0]}/{place[1]}"


def number_text(number: EntryNumber) -> str:
    """Return an entry's id as the log writes it."""
    return f"{number[0]}-{number[1]}"


def backward(before: SeenLog, now: LogCounters) -> list[Finding]:
    """Return why the log does not continue what was seen: something is gone, or begins anew."""
    found: list[Finding] = []
    if now.generation < before.generation:
        what = f"The log went back from generation {before.generation} to {now.generation}: it was emptied or replaced."
        found.append(lost("generation", what))
    if now.generation == before.generation:
        found += _backward_stream(MANIFESTS, before.manifests, now.manifests)
        found += _cut_off_manifests(before, now)
    for key, seen in before.entries.items():
        generation, partition = (int(part) for part in key.split("/"))
        place = (generation, partition)
        found += _backward_stream(stream_name(place), seen, now.entries.get(place))
    return found


def _backward_stream(name: str, seen: SeenStream | None, now: StreamCounters | None) -> list[Finding]:
    if seen is None or (now is None and not seen.added):
        return []
    if now is None:
        return [lost(name, f"The stream is gone; it ended at {number_text(seen.last)}.")]
    if now.added < seen.added or now.last < seen.last:
        what = (
            f"The stream was replaced or lost its end: it ended at {number_text(seen.last)} after "
            f"{counted(seen.added, 'entry', 'entries')}, and ends at {number_text(now.last)} after {now.added:,}."
        )
        return [lost(name, what)]
    if now.deleted != seen.deleted:
        return [lost(name, f"Entries were deleted by their ids; the highest is {number_text(now.deleted)}.")]
    return []


def _cut_off_manifests(before: SeenLog, now: LogCounters) -> list[Finding]:
    if before.manifests is None or now.manifests is None or before.manifests.added == 0:
        return []
    began, begins = before.manifests.first[0], begin_of(now.manifests)[0]
    if begins <= max(began, now.kept_from_cut):
        return []
    cuts = f"{max(began, now.kept_from_cut)} to {begins - 1}"
    what = f"The manifests of cuts {cuts} were cut off; trimming took none of them."
    return [lost(MANIFESTS, what)]


def begin_of(stream: StreamCounters) -> EntryNumber:
    """Return the first entry of a stream; where the next cut's begin when it is empty."""
    return stream.first if stream.length else (stream.last[0] + 1, 0)


def moved_streams(before: SeenLog, now: LogCounters) -> list[Moved]:
    """Return the streams that begin later than before, after what was trimmed; manifests tell whether they may."""
    found = []
    for place, stream in now.entries.items():
        seen = before.entries.get(place_key(place))
        begin = begin_of(stream)
        if seen is not None and stream.added and begin != seen.first and begin[0] >= max(now.kept_from_cut, 1):
            found.append(Moved(place=place, before=begin))
    return found


def told_by(manifests: Iterable[Manifest]) -> dict[Place, int]:
    """Return how many entries of each stream manifests name."""
    found: dict[Place, int] = {}
    for manifest in manifests:
        for partition, chunks in enumerate(manifest.partitions):
            place = (manifest.generation, partition)
            found[place] = found.get(place, 0) + len(chunks)
    return found


def unexplained(before: Mapping[str, SeenStream], now: LogCounters, told: Mapping[Place, int]) -> list[Finding]:
    """Return streams of the current generation with more or fewer entries than manifests and the next cut explain."""
    found: list[Finding] = []
    for place, stream in now.entries.items():
        if place[0] != now.generation:
            continue  # no manifest will name what is appended there; a relay that was ended may still append one cut
        seen = before.get(place_key(place))
        explained = (seen.told if seen else 0) + told.get(place, 0)
        excess = stream.added - explained - pending(stream, now.manifests)
        found += _not_as_named(place, stream, excess, "were ever appended")
    for place, count in told.items():
        if place[0] == now.generation and count and place not in now.entries:
            found.append(lost(stream_name(place), "Manifests name entries of it, and there is no such stream."))
    return found


def unexplained_lengths(now: LogCounters, told: Mapping[Place, int]) -> list[Finding]:
    """Return what `unexplained` does where only the manifests that are there now tell: by lengths, after trimming."""
    begin = begin_of(now.manifests)[0] if now.manifests else 0
    found: list[Finding] = []
    for place, stream in now.entries.items():
        if place[0] != now.generation or begin_of(stream)[0] < begin:
            continue  # it is being trimmed just now
        excess = stream.length - told.get(place, 0) - pending(stream, now.manifests)
        found += _not_as_named(place, stream, excess, "the stream holds")
    return found


def _not_as_named(place: Place, stream: StreamCounters, excess: int, there: str) -> Iterator[Finding]:
    """Yield a stream with more entries than manifests name, or with fewer: those that are `there`."""
    if excess > 0:
        what = f"{counted(excess, 'entry', 'entries')} up to {number_text(stream.last)} that no manifest names."
        yield stranger(stream_name(place), what)
    elif excess < 0:
        yield lost(stream_name(place), f"Manifests name {counted(-excess, 'entry', 'entries')} more than {there}.")


def pending(stream: StreamCounters, manifests: StreamCounters | None) -> int:
    """Return how many entries the stream has of the cut whose manifest comes next."""
    cut, chunk = stream.last
    is_next = manifests is None or not manifests.added or cut == manifests.last[0] + 1
    return chunk + 1 if is_next and stream.last != NO_ENTRY else 0


def seen_stream(stream: StreamCounters, told: int = 0) -> SeenStream:
    """Return a stream as it is kept."""
    return SeenStream(added=stream.added, first=begin_of(stream), last=stream.last, deleted=stream.deleted, told=told)


def seen_now(
    now: LogCounters,
    told: Mapping[Place, int],
    named_until: Mapping[int, int],
    blocks: Mapping[int, tuple[int, int]],
) -> SeenLog:
    """Return the log as it is now; `told` explains its streams, one that it does not name is explained as it is."""
    begin = begin_of(now.manifests)[0] if now.manifests else 0
    current = {now.generation: now.manifests.last[0] if now.manifests else 0}
    kept = {number: cut for number, cut in {**named_until, **current}.items() if cut >= begin or number in current}
    return SeenLog(
        server_run=now.server_run,
        replacements=now.replacements,
        generation=now.generation,
        kept_from_cut=now.kept_from_cut,
        manifests=seen_stream(now.manifests) if now.manifests else None,
        entries={
            place_key(place): seen_stream(stream, told.get(place, stream.added - pending(stream, now.manifests)))
            for place, stream in now.entries.items()
            if place[0] in kept
        },
        named_until=kept,
        blocks=dict(blocks),
    )


def is_as_it_began(now: LogCounters) -> bool:
    """Return whether nothing can have been missed: nothing was ever deleted, trimmed or published again."""
    if now.manifests is None:
        return not now.entries
    whole = (now.manifests, *now.entries.values())
    begins = now.generation == 1 and now.manifests.added == now.manifests.last[0]
    return begins and all(stream.deleted == NO_ENTRY and stream.length == stream.added for stream in whole)
