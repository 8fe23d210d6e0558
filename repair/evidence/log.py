"""The log against what the outbox gives for the same cuts: manifest by manifest, entry by entry.

Belongs here: of which cuts the log does not hold what left the pod, and which events it holds. Does not belong here:
what is done about them (`repair/plan.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa

from contracts.errors import LogGapError, ManifestMismatchError
from contracts.settings import PodSettings, Settings
from streams import codec
from streams.log import EntryId, EventLog, Manifest, entry_place
from streams.logs import build_log
from streams.reissue import newest_cut, placed_events, reissued_cuts


def wrong_cuts(settings: Settings, pod: PodSettings, cuts: Collection[int], base_cut: int) -> frozenset[int]:
    """Return those of `cuts` that the log lacks or has otherwise than it should; trimmed ones are not looked at.

    Of pruned cuts (up to `base_cut`) only the log itself can be asked: whether its entries are what its manifests say.
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


def first_kept_cut(log: EventLog, pod: str) -> int:
    """Return the lowest cut that the log still has of `pod`; 0: it has none."""
    return next((manifest.cut for manifest in log.manifests(pod, 0, limit=1)), 0)


def manifest_of(log: EventLog, pod: str, cut: int) -> Manifest | None:
    """Return the log's manifest of a cut; None: it has none."""
    return next((manifest for manifest in log.manifests(pod, cut - 1, limit=1) if manifest.cut == cut), None)


def logged_events(settings: Settings, pod: PodSettings, cuts: Collection[int]) -> Iterator[dict[str, Any]]:
    """Yield the events (as rows of REISSUED_SCHEMA) that the log has of these cuts, from entries that are whole."""
    with closing(build_log(settings)) as log:
        for cut in sorted(cuts):
            manifest = manifest_of(log, pod.pod, cut)
            if manifest is None:
                continue
            for at, events in entries(log, pod.pod, manifest):
                if events is not None:
                    yield from placed_events(events, pod=pod.pod, epoch=manifest.epoch, at=at).to_pylist()


def _has_entries(log: EventLog, pod: str, manifest: Manifest) -> bool:
    """Return whether every entry that a manifest names is there, with the checksum that it states."""
    return all(events is not None for _, events in entries(log, pod, manifest))


def entries(log: EventLog, pod: str, manifest: Manifest) -> Iterator[tuple[EntryId, pa.Table | None]]:
    """Yield the entries that a manifest names, with their events; None where one is lost, or not what it states."""
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
