"""The positions to which a view goes back when a new epoch of its pod is opened. Pure but for one query on the lake.

Belongs here: the positions. Does not belong here: writing them (the stores), or the rows
(`projection.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from derived.keyed.store import Standing
from streams.projection import START, EpochOpening, Position

if TYPE_CHECKING:
    import duckdb

    from derived.lake_reads import LakeProgress


def earlier_standings(
    stored: Mapping[int, tuple[str | None, Position]],
    lake: duckdb.DuckDBPyConnection,
    pod: str,
    opening: EpochOpening,
    base_at: datetime | None,
) -> dict[int, Standing]:
    """Return partition -> new position, for those that move: to the base, or to the lake's position if it is behind.

    If the whole view is at the base afterwards, its positions are of the new epoch.
    """
    from derived.lake_reads import lake_progress

    base = Position(cut=opening.base_cut, chunk=0)
    if not any(position >= base for _, position in stored.values()):
        return {}
    progress = lake_progress(lake, pod)
    is_view_beyond = any(position > base for _, position in stored.values())
    moved = {
        partition: _standing(progress, partition, opening, base, base_at)
        for partition, (_, position) in stored.items()
        if position > base or (is_view_beyond and position > progress.positions.get(partition, START))
    }
    after = {partition: position for partition, (_, position) in stored.items()} | {
        partition: standing.position for partition, standing in moved.items()
    }
    if base == START or any(position != base for position in after.values()):
        return moved
    return dict.fromkeys(after, Standing(epoch=opening.epoch, position=base, data_at=base_at))


def _standing(
    progress: LakeProgress, partition: int, opening: EpochOpening, base: Position, base_at: datetime | None
) -> Standing:
    reached = progress.positions.get(partition, START)
    if reached >= base:
        return Standing(epoch=opening.base_epoch, position=base, data_at=base_at)
    # Go back to a whole cut: the exact position of a parked event inside a cut is not recorded.
    floor = Position(cut=reached.cut, chunk=0)
    return Standing(
        epoch=progress.epoch if floor != START else None,
        position=floor,
        data_at=progress.data_at if floor != START else None,
    )
