"""The result of a rebuild of a view, as a value. Belongs here: nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streams.projection import Position


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """The result of one rebuild."""

    aggregates: int
    """Aggregates that the lake knows and that are now in the view as the lake says."""
    rows_before: int
    """Root rows that existed for the same keys; extra rows were deleted."""
    skipped_keys: tuple[str, ...]
    """Keys that were parked before: a rebuild skips them. (A key that ends in an unreadable event becomes parked.)"""
    position: Mapping[int, Position]
    """The position at which the content now is."""
    changed: int | None = None
    """Aggregates whose rows changed; 0 if everything was right already. None: the caller did not ask for it."""
