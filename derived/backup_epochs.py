"""The lake's backup when a new epoch is opened: it ends at the base cut, and no file of it is deleted.

Belongs here: what the backup knows of its cuts, and marking cuts as retracted. Does not belong here: writing and
restoring a backup (`derived/lake_backup.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import msgspec

from contracts.errors import PropagationError
from contracts.settings import Settings
from contracts.text import counted
from derived.lake_backup import (
    Segment,
    backup_lock,
    figures,
    file_rows,
    read_index,
    verified_chains,
    write_file,
    write_index,
)
from derived.lake_connection import DEFAULT_BOUNDS, Bounds, bounds_of, open_beside
from derived.objects import Folder
from streams.epochs import PublishedCut
from streams.projection import EpochOpening


def backed_up_cuts(folder: Folder, pod: str) -> Iterator[PublishedCut]:
    """Yield the last cut of each file of the verified backup, with its epoch and time of registration."""
    for segment in verified_chains(folder).get(pod, []):
        yield PublishedCut(cut=segment.through_cut, epoch=segment.epoch, registered_at=segment.registered_at)


def backed_up_after(folder: Folder, pod: str, cut: int, *, bounds: Bounds = DEFAULT_BOUNDS) -> int:
    """Return how many events the verified backup has after `cut`."""
    chain = verified_chains(folder).get(pod, [])
    whole = sum(segment.events for segment in chain if segment.from_cut > cut)
    divided = [segment for segment in chain if segment.from_cut <= cut < segment.through_cut]
    with open_beside(bounds) as connection:
        return whole + sum(figures(connection, _rows(folder, segment, f"cut > {int(cut)}"))[0] for segment in divided)


def retract_backup(settings: Settings, pod: str, opening: EpochOpening) -> None:
    """Let the verified backup of the pod end at the opening's base cut or earlier. Idempotent.

    A file that contains the base cut and later ones is split: its events up to the base are written to a file of their
    own, read back and compared. Raises PropagationError if a file no longer has the events that the index names.
    """
    folder = settings.lake_backup_path
    if not read_index(folder):
        return
    with backup_lock(settings.catalog_dsn), open_beside(bounds_of(settings)) as connection:
        changed: list[Segment] = []
        for segment in read_index(folder):
            is_beyond = segment.pod == pod and segment.through_cut > opening.base_cut
            if segment.retracted_by is not None or not is_beyond:
                changed.append(segment)
                continue
            changed.append(msgspec.structs.replace(segment, retracted_by=opening.epoch))
            if segment.from_cut <= opening.base_cut:
                changed.append(_first_part(connection, folder, segment, opening.base_cut))
        if changed != read_index(folder):
            write_index(folder, changed)


def _first_part(connection: duckdb.DuckDBPyConnection, folder: Folder, segment: Segment, through_cut: int) -> Segment:
    if figures(connection, _rows(folder, segment, "true")) != (segment.events, segment.checksum):
        raise PropagationError(
            f"{segment.file} in {folder} does not hold the {counted(segment.events, 'event')} that its index names, so "
            "the backup cannot be taken back to a cut within it; bring that file back, or set another folder as "
            "TIEOUT_LAKE_BACKUP_PATH."
        )
    rows = _rows(folder, segment, f"cut <= {int(through_cut)}")
    name, events, checksum = write_file(connection, folder, segment.pod, rows, segment.from_cut, through_cut)
    return msgspec.structs.replace(
        segment, through_cut=through_cut, events=events, checksum=checksum, file=name, registered_at=None
    )


def _rows(folder: Folder, segment: Segment, condition: str) -> str:
    return f"(select * from {file_rows(folder / segment.file)} as events where {condition})"
