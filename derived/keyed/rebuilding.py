"""What a rebuild of a view came to, as a value. Belongs here: nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streams.projection import Position


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What one rebuild did."""

    aggregates: int
    """Aggregates that the lake knows, and that are now in the view as it says."""
    rows_before: int
    """Root rows that were there for the same keys; extra ones are gone."""
    skipped_keys: tuple[str, ...]
    """Keys that were parked before: never rebuilt over. (A key that ends in an unreadable event becomes parked.)"""
    position: Mapping[int, Position]
    """The content is that of exactly this position."""
    changed: int | None = None
    """Aggregates whose rows are other ones now, 0 if everything was right already. None: it was not asked."""
