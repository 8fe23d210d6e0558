"""Compares the log with the same cuts recomputed from the outbox: manifest by manifest, entry by entry.

Belongs here: the cuts that are wrong in the log, and the log's events. Does not belong here: what is done about them
(`repair/plan.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa

from contracts.errors import LogGapError, ManifestMismatchError
from contracts.settings import PodSettings, Settings
from streams import codec
from streams.log import EntryId, EventLog, Manifest, entry_place, first_kept_cut
from streams.logs import build_log
from streams.reissue import newest_cut, placed_events, reissued_cuts


def wrong_cuts(settings: Settings, pod: PodSettings, cuts: Collection[int], base_cut: int) -> frozenset[int]:
    """Return those of `cuts` that are missing or wrong in the log; trimmed cuts are skipped.

    Pruned cuts (up to `base_cut`) cannot be recomputed, so for them we only verify the entries against their manifests.
    """
    wrong = set()
    with closing(build_log(settings)) as log:
        kept_from = first_kept_cut(log, pod.pod)
        chosen = [cut for cut in cuts if cut >= kept_from]
        newest = newest_cut(pod)
        for cut in chosen:
            manifest = manifest_of(log, pod.pod, cut)
            if cut > newest or manifest is None or not _has_entries(log, pod.pod, manifest):
                wrong.add(cut)
        for reissued in reissued_cuts(pod, [cut for cut in chosen if cut > base_cut and cut not in wrong]):
            manifest = manifest_of(log, pod.pod, reissued.cut)
            if manifest is None or manifest.partitions != reissued.manifest.partitions:
                wrong.add(reissued.cut)
    return frozenset(wrong)


def manifest_of(log: EventLog, pod: str, cut: int) -> Manifest | None:
    """Return the log's manifest of a cut; None: there is none."""
    return next((manifest for manifest in log.manifests(pod, cut - 1, limit=1) if manifest.cut == cut), None)


def logged_events(settings: Settings, pod: PodSettings, cuts: Collection[int]) -> Iterator[dict[str, Any]]:
    """Yield the log's events of these cuts (as rows of REISSUED_SCHEMA), from entries with the right checksum."""
    with closing(build_log(settings)) as log:
        for cut in sorted(cuts):
            manifest = manifest_of(log, pod.pod, cut)
            if manifest is None:
                continue
            for at, events in entries(log, pod.pod, manifest):
                if events is not None:
                    yield from placed_events(events, pod=pod.pod, epoch=manifest.epoch, at=at).to_pylist()


def _has_entries(log: EventLog, pod: str, manifest: Manifest) -> bool:
    """Return whether the log has every entry that a manifest names, with the stated checksum."""
    return all(events is not None for _, events in entries(log, pod, manifest))


def entries(log: EventLog, pod: str, manifest: Manifest) -> Iterator[tuple[EntryId, pa.Table | None]]:
    """Yield (entry id, events) of the entries that a manifest names; None for an entry that is lost or wrong."""
    for partition, chunks in enumerate(manifest.partitions):
        for number, stated in enumerate(chunks):
            at = EntryId(generation=manifest.generation, partition=partition, cut=manifest.cut, chunk=number)
            try:
                (data,) = log.fetch(pod, [at])
                events = codec.decode(data)
            except (LogGapError, ManifestMismatchError):
                yield at, None
                continue
            is_whole = codec.checksum(events, place=entry_place(pod, manifest.epoch, at)) == stated.checksum
            yield at, events if is_whole else None
