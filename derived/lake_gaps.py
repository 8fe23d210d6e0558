"""Loading whole cuts that the lake needs next, and that neither log nor outbox still has, from the lake's own backup.

A lake that was set back (an older catalog, a position changed by an operator) needs cuts that were pruned since. Cuts
are pruned only if a verified backup has them. Belongs here: loading them, in one transaction with the position. Does
not belong here: single events of cuts that the lake already has (`derived/lake_repair.py`), an empty lake
(`derived/lake_backup.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from contracts.errors import EpochChangedError, PropagationError
from derived.lake_backup import Segment, backup_lock, stand_after, verified_chains, verified_rows
from derived.lake_connection import DEFAULT_BOUNDS, Bounds
from derived.lake_epochs import spans
from derived.lake_reads import lake_progress
from derived.lake_repair import LakeChange, change_lake, no_events
from derived.lake_schema import EVENTS, PARKED
from derived.objects import Folder
from streams.projection import Position

Connection = duckdb.DuckDBPyConnection


def load_cuts(
    catalog_dsn: str, data_path: str, folder: Folder, pod: str, *, bounds: Bounds = DEFAULT_BOUNDS
) -> LakeChange:
    """Load every cut that the verified backup of `pod` has beyond the lake's position, and set the position after it.

    Events that the lake already has, or has parked, are left out. Nothing changes if the backup ends at or before the
    lake's position. Raises EpochChangedError if the backup is of another history than the lake; PropagationError if a
    file does not hold what the index names, or if a partition is beyond the backup. Nothing is loaded then.
    """

    def change(connection: Connection) -> LakeChange:
        chain = verified_chains(folder).get(pod, [])
        progress = lake_progress(connection, pod)
        floor = min(position.cut for position in progress.positions.values())
        beyond = [segment for segment in chain if segment.through_cut > floor]
        if not beyond:
            return LakeChange(events=0, lowest_cut=None)
        _check(connection, pod, chain, floor, progress.epoch)
        end = Position(cut=chain[-1].through_cut, chunk=0)
        if any(position > end for position in progress.positions.values()):
            raise PropagationError(
                f"A partition of the lake in pod {pod} is beyond the backup, which ends at {end.cut}."
            )
        events = sum(_load(connection, folder, segment, floor) for segment in beyond)
        stand_after(connection, [segment for segment in chain if segment.through_cut >= max(floor, 1)])
        return LakeChange(events=events, lowest_cut=floor + 1)

    with backup_lock(catalog_dsn):
        return change_lake(catalog_dsn, data_path, pod, no_events(), change, bounds=bounds)


def _check(connection: Connection, pod: str, chain: Sequence[Segment], floor: int, epoch: str | None) -> None:
    """Raise EpochChangedError unless the cut at the lake's position has the same epoch in the backup and the lake."""
    if epoch is None:
        return
    at = max(floor, 1)
    in_backup = next(segment.epoch for segment in chain if segment.from_cut <= at <= segment.through_cut)
    in_lake = spans(connection, pod, at, at, epoch)[-1].epoch
    if in_backup != in_lake:
        raise EpochChangedError(
            f"The backup has cut {at} of pod {pod} in epoch {in_backup}, but the lake in epoch {in_lake}: their cuts "
            "have other content, so nothing was taken in."
        )


def _load(connection: Connection, folder: Folder, segment: Segment, floor: int) -> int:
    """Insert the segment's events after `floor`; return how many were missing."""
    rows = connection.execute(
        f"""insert into {EVENTS} by name select * from {verified_rows(connection, folder, segment)} as backed_up
            where cut > $floor
              and event_id not in (select event_id from {EVENTS} where pod = $pod and cut > $floor)
              and event_id not in (select event_id from {PARKED} where pod = $pod)""",
        {"floor": floor, "pod": segment.pod},
    ).fetchall()
    return int(rows[0][0])
