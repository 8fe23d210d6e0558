"""What may be deleted, and when: outbox rows after a backup that equals them, log entries after all have applied them.

Belongs here: the order of these steps. Does not belong here: the steps (`lake_backup.py`, `backup_proof.py`,
`streams/outbox_reading.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.errors import EpochChangedError
from contracts.settings import PodSettings, Settings
from derived.backup_proof import differing, pruned_through, rows_of_chain, rows_of_lake, told
from derived.lake_backup import Segment, back_up, check_backup_epoch, verified_chains, write_anew
from derived.lake_connection import bounds_of, open_beside, open_lake
from derived.objects import Folder
from streams.cuts import Cut, cuts_from
from streams.outbox_reading import prune


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was deleted of one pod's outbox, and up to which cut its events are in the verified backup."""

    pod: str
    verified_cut: int
    backed_up_events: int
    pruned_events: int
    held_back: str = ""
    """Why nothing was deleted, in one sentence; empty: whatever the backup holds was."""


def back_up_lake(settings: Settings) -> list[Segment]:
    """Write the lake's new events to the backup and verify it; return the new segments."""
    return back_up(settings.catalog_dsn, settings.lake_data_path, settings.lake_backup_path, bounds=bounds_of(settings))


def prune_outboxes(settings: Settings, accepted: Callable[[str], Collection[str]] = lambda pod: ()) -> list[Pruned]:
    """Back up the lake, verify the backup, then delete the outbox rows of the cuts that it holds.

    Nothing of a pod is deleted while the backup does not equal its outbox: then the outbox has the last right copy.
    `accepted`: pod -> the ids of events whose difference a person has accepted. Raises EpochChangedError if the backup
    is of another history of a pod's database; nothing of that pod is deleted.
    """
    segments = back_up_lake(settings)
    chains = verified_chains(settings.lake_backup_path)
    found = []
    for pod in settings.pods:
        chain = chains.get(pod.pod, [])
        number, held_back = _prune(settings, pod, chain, accepted(pod.pod)) if chain else (0, "")
        backed_up = sum(segment.events for segment in segments if segment.pod == pod.pod)
        found.append(
            Pruned(
                pod=pod.pod,
                verified_cut=chain[-1].through_cut if chain else 0,
                backed_up_events=backed_up,
                pruned_events=number,
                held_back=held_back,
            )
        )
    return found


def _prune(
    settings: Settings, pod: PodSettings, chain: Sequence[Segment], accepted: Collection[str]
) -> tuple[int, str]:
    """Delete the outbox rows that the backup holds, after comparing the pod's own cuts and events with the backup's.

    Return their number, and why none was deleted.
    """
    folder, newest = settings.lake_backup_path, chain[-1]
    with psycopg.connect(pod.relay_dsn, autocommit=True) as connection:
        for cut in cuts_from(connection, newest.through_cut, limit=1):
            check_backup_epoch(folder, newest, cut.epoch, "the pod's database")
            _check_same_cut(folder, newest, cut)
        after = pruned_through(connection, newest.through_cut)
        if after is None or after >= newest.through_cut:
            return 0, ""
        if lacking := _lacking(settings, pod.pod, chain, connection, after, accepted):
            return 0, told(pod.pod, lacking, newest.through_cut)
    return prune(pod.relay_dsn, newest.through_cut).events, ""


def _lacking(
    settings: Settings,
    pod: str,
    chain: Sequence[Segment],
    outbox: psycopg.Connection[Any],
    after: int,
    accepted: Collection[str],
) -> list[str]:
    """Return the events of the outbox that neither backup nor lake hold as it does, or that only they have.

    Where the lake was mended since it was backed up, its files in the backup are written anew first.
    """
    folder, through, bounds = settings.lake_backup_path, chain[-1].through_cut, bounds_of(settings)
    with open_beside(bounds) as connection:
        rows = rows_of_chain(connection, folder, chain, after)
        if not differing(outbox, connection, rows, after=after, through=through, accepted=accepted):
            return []
    with open_lake(settings, read_only=True) as lake:
        lacking = differing(outbox, lake, rows_of_lake(pod), after=after, through=through, accepted=accepted)
    if lacking:
        return lacking
    newer = [segment for segment in chain if segment.through_cut > after]
    anew = write_anew(settings.catalog_dsn, settings.lake_data_path, folder, newer, bounds=bounds)
    with open_beside(bounds) as connection:
        rows = rows_of_chain(connection, folder, anew, after)
        return differing(outbox, connection, rows, after=after, through=through, accepted=accepted)


def _check_same_cut(folder: Folder, newest: Segment, cut: Cut) -> None:
    """Raise EpochChangedError if the database was set back: it may use a cut's number twice within one epoch."""
    if cut.cut == newest.through_cut and newest.registered_at not in (None, cut.registered_at):
        raise EpochChangedError(
            f"Cut {cut.cut} of pod {newest.pod} is another one in the database than in the backup in {folder}: the "
            "database was set back. When it is the right database, open a new epoch with `tieout open-epoch`."
        )
