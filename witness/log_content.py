"""Looks at what the log holds: manifests against their digests and the pod's cuts, entries against their manifests.

Belongs here: reading manifests and entries, and what is wrong with one. Does not belong here: counters
(`witness/log_seen.py`), when what is looked at (`witness/log.py`).

Digests are kept as sums per block of cuts, so that what is kept grows by a number per BLOCK cuts. Of the block that the
log begins in, the trimmed manifests are missing from the sum, so that it is not compared any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from contracts.errors import LogGapError, ManifestMismatchError
from contracts.text import counted
from streams import codec
from streams.counters import StatedManifest
from streams.log import ChunkManifest, EntryId, EventLog, Manifest, entry_place
from witness.log_seen import MANIFESTS, Finding, Place, lost, number_text, stranger, stream_name

BLOCK = 100
"""Cuts per block of manifests."""
PAGE = 1_000
DIGEST = 1 << 62

Blocks = Mapping[int, tuple[int, int]]
"""First cut of a block -> how many manifests, and the sum of their digests."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """Manifests that were read, and what is wrong with those that are none."""

    manifests: tuple[Manifest, ...]
    findings: tuple[Finding, ...]


def block_of(cut: int) -> int:
    """Return the first cut of the block that a cut is in."""
    return cut - cut % BLOCK


def with_digests(blocks: Blocks, stated: Iterable[StatedManifest]) -> dict[int, tuple[int, int]]:
    """Return blocks with manifests added."""
    found = dict(blocks)
    for one in stated:
        count, total = found.get(block_of(one.at[0]), (0, 0))
        digest = int.from_bytes(hashlib.sha256(f"{number_text(one.at)}:".encode() + one.data).digest()[:8], "big")
        found[block_of(one.at[0])] = (count + 1, (total + digest) % DIGEST)
    return found


def whole_blocks(blocks: Blocks, begin: int) -> dict[int, tuple[int, int]]:
    """Return the blocks of which the log, which begins at a cut, has trimmed nothing."""
    return {first: held for first, held in blocks.items() if first >= begin or (first == 0 and begin <= 1)}


def changed_blocks(before: Blocks, now: Blocks, *, before_cut: int) -> list[Finding]:
    """Return the blocks whose manifests are not what they were, of those that end before a cut."""
    return [
        changed_block(first, first + BLOCK - 1)
        for first, held in before.items()
        if first + BLOCK <= before_cut and now.get(first) != held
    ]


def changed_block(first: int, last: int) -> Finding:
    """Return the finding that a block of manifests is not what it was."""
    return lost(MANIFESTS, f"Of the manifests of cuts {max(first, 1)} to {last}, one is another one, or is gone.")


def read_manifests(log: EventLog, pod: str, from_cut: int, through_cut: int) -> Iterator[StatedManifest]:
    """Yield the manifests as they are stored, from one cut through another, in order."""
    while from_cut <= through_cut and (page := log.stated(pod, from_cut, through_cut, limit=PAGE)):
        yield from page
        from_cut = page[-1].at[0] + 1


def missing_between(last_cut: int, stated: Iterable[StatedManifest]) -> list[Finding]:
    """Return where a cut has no manifest, after a last one (0: none). Cuts have no gaps, so manifests have none."""
    found = []
    for one in stated:
        if last_cut and one.at[0] != last_cut + 1:
            found.append(lost(MANIFESTS, f"After the manifest of cut {last_cut} comes that of cut {one.at[0]}."))
        last_cut = one.at[0]
    return found


def decoded(stated: Iterable[StatedManifest]) -> Read:
    """Decode manifests; one that cannot be read, or says that it is of another cut, is a finding."""
    manifests, findings = [], []
    for one in stated:
        try:
            manifest = msgspec.json.decode(one.data, type=Manifest)
        except msgspec.DecodeError:
            findings.append(stranger(MANIFESTS, f"What stands as manifest {number_text(one.at)} cannot be read."))
            continue
        if (manifest.cut, 0) == one.at:
            manifests.append(manifest)
        else:
            what = f"The manifest {number_text(one.at)} says that it is of cut {manifest.cut}."
            findings.append(stranger(MANIFESTS, what))
    return Read(manifests=tuple(manifests), findings=tuple(findings))


def unregistered(manifests: Sequence[Manifest], snapshots: Mapping[int, str], first_cut: int) -> list[Finding]:
    """Return the manifests of cuts that the pod has not registered so; cuts before `first_cut` are pruned there."""
    found = []
    for manifest in manifests:
        known = snapshots.get(manifest.cut)
        if manifest.cut >= first_cut and known != manifest.snapshot:
            said = "has registered otherwise" if known else "has not registered"
            found.append(stranger(MANIFESTS, f"The manifest of cut {manifest.cut}, which the pod {said}."))
    return found


def wrongly_begun(manifests: Iterable[Manifest], place: Place, begin: tuple[int, int]) -> Finding | None:
    """Return what was cut off a stream of which manifests name an entry before the one that it begins with."""
    for manifest in manifests:
        if manifest.generation != place[0] or place[1] >= len(manifest.partitions):
            continue
        if manifest.partitions[place[1]] and (manifest.cut, 0) < begin:
            what = f"It begins at {number_text(begin)}; the manifest of cut {manifest.cut} names an entry before."
            return lost(stream_name(place), what)
    return None


def places_of(pod: str, manifests: Iterable[Manifest]) -> Iterator[tuple[EntryId, ChunkManifest, str]]:
    """Yield each entry that manifests name: where it is, what it must hold, and its place's text."""
    for manifest in manifests:
        for partition, chunks in enumerate(manifest.partitions):
            for number, chunk in enumerate(chunks):
                at = EntryId(generation=manifest.generation, partition=partition, cut=manifest.cut, chunk=number)
                yield at, chunk, entry_place(pod, manifest.epoch, at)


def entry_finding(log: EventLog, pod: str, at: EntryId, chunk: ChunkManifest, place: str) -> Finding | None:
    """Read an entry; return what is wrong with it."""
    name, number = stream_name((at.generation, at.partition)), number_text((at.cut, at.chunk))
    try:
        events = codec.decode(log.fetch(pod, [at])[0])
    except LogGapError:
        # Said once per block: a stream that was emptied is one loss, not one per entry.
        first = block_of(at.cut)
        return lost(
            name, f"Of the entries that manifests of cuts {max(first, 1)} to {first + BLOCK - 1} name, some are gone."
        )
    except (ManifestMismatchError, KeyError):  # KeyError: it has no field of that name
        return lost(name, f"The entry {number} cannot be read.")
    if events.num_rows != chunk.events or codec.checksum(events, place=place) != chunk.checksum:
        what = (
            f"The entry {number} holds other events than the {counted(chunk.events, 'event')} that its manifest names."
        )
        return lost(name, what)
    return None
