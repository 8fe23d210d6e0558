"""What may be deleted, and when: outbox rows after a verified backup, log entries after all projections applied them.

Belongs here: the order of these steps. Does not belong here: the steps (`lake_backup.py`, `streams/outbox_reading.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from contracts.errors import EpochChangedError
from contracts.settings import PodSettings, Settings
from derived.lake_backup import Segment, back_up, check_backup_epoch, verified_chains
from derived.lake_connection import bounds_of
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


def back_up_lake(settings: Settings) -> list[Segment]:
    """Write the lake's new events to the backup and verify it; return the new segments."""
    return back_up(settings.catalog_dsn, settings.lake_data_path, settings.lake_backup_path, bounds=bounds_of(settings))


def prune_outboxes(settings: Settings) -> list[Pruned]:
    """Back up the lake, verify the backup, then delete the outbox rows of the cuts that it holds.

    Raises EpochChangedError if the backup is of another history of a pod's database; nothing of that pod is deleted.
    """
    segments = back_up_lake(settings)
    chains = verified_chains(settings.lake_backup_path)
    return [
        Pruned(
            pod=pod.pod,
            verified_cut=chains[pod.pod][-1].through_cut if pod.pod in chains else 0,
            backed_up_events=sum(segment.events for segment in segments if segment.pod == pod.pod),
            pruned_events=_prune(pod, settings.lake_backup_path, chains[pod.pod][-1]) if pod.pod in chains else 0,
        )
        for pod in settings.pods
    ]


def _prune(pod: PodSettings, folder: Folder, newest: Segment) -> int:
    """Delete the outbox rows that the backup holds, after comparing the pod's own cuts with the backup's."""
    with psycopg.connect(pod.relay_dsn, autocommit=True) as connection:
        for cut in cuts_from(connection, newest.through_cut, limit=1):
            check_backup_epoch(folder, newest, cut.epoch, "the pod's database")
            _check_same_cut(folder, newest, cut)
    return prune(pod.relay_dsn, newest.through_cut).events


def _check_same_cut(folder: Folder, newest: Segment, cut: Cut) -> None:
    """Raise EpochChangedError if the database was set back: it may use a cut's number twice within one epoch."""
    if cut.cut == newest.through_cut and newest.registered_at not in (None, cut.registered_at):
        raise EpochChangedError(
            f"Cut {cut.cut} of pod {newest.pod} is another one in the database than in the backup in {folder}: the "
            "database was set back. When it is the right database, open a new epoch with `tieout open-epoch`."
        )
