"""Checks of a step that every projection makes before it applies the step, for any store.

Belongs here: pure checks of a `Work` against the stored positions. Does not belong here: how positions are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.errors import EpochChangedError
from streams.projection import START, Entry, FencedError, Position, Work


def check_expected(work: Work, stored: Mapping[int, tuple[str | None, Position]]) -> None:
    """Compare the step with the stored (epoch, position) by partition.

    Raises FencedError if a partition is not at the position that the step expects, EpochChangedError if the stored
    positions are of another database's cuts.
    """
    others = {
        epoch: position
        for epoch, position in stored.values()
        if epoch is not None and not _is_of_epoch(work, epoch, position)
    }
    # A step that only releases parked events moves no position, so some partitions may still be in the old epoch.
    if others and not (work.released and any(epoch == work.epoch for epoch, _ in stored.values())):
        epoch, position = sorted(others.items())[0]
        raise EpochChangedError(
            f"Pod {work.pod} has epoch {work.epoch}, but what is applied up to cut {position.cut} came from epoch "
            f"{epoch}; open the epoch with `tieout open-epoch`."
        )
    for partition, expected in work.expected.items():
        _, position = stored.get(partition, (None, START))
        if position != expected:
            raise FencedError(
                f"Partition {partition} of pod {work.pod} stands at cut {position.cut}, chunk {position.chunk}, not at "
                f"cut {expected.cut}, chunk {expected.chunk}: another consumer has moved it."
            )


def _is_of_epoch(work: Work, epoch: str, position: Position) -> bool:
    """Return whether the step's epoch continues what is applied up to `position`."""
    if epoch == work.epoch:
        return True
    opening = work.opening
    return opening is not None and epoch == opening.base_epoch and position == Position(cut=opening.base_cut, chunk=0)


def furthest_epoch(stored: Mapping[int, tuple[str | None, Position]]) -> str | None:
    """Return the epoch of the furthest stored position; None if nothing is applied."""
    return max(stored.values(), key=lambda item: (item[0] is not None, item[1]), default=(None, START))[0]


def fresh_entries(work: Work) -> Sequence[Entry]:
    """Return the entries that the expected positions do not include; a second copy of an applied cut is dropped.

    A step that releases parked events contains old entries on purpose: all of them are returned.
    """
    if work.released:
        return work.entries
    return [entry for entry in work.entries if not _is_included(entry, work.expected.get(entry.partition, START))]


def _is_included(entry: Entry, position: Position) -> bool:
    return entry.cut <= position.cut or (entry.cut == position.cut + 1 and entry.chunk < position.chunk)
