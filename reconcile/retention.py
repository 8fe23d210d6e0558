"""How long results, figures and sightings are kept in the control database.

Belongs here: these times, and one pass of deleting. Does not belong here: the tables (`reconcile/results.py`,
`figure_results.py`, `sightings.py`), when a pass runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.ownership import SWEEP_SECONDS_MAX
from reconcile.figure_results import prune_figures
from reconcile.results import prune_results
from reconcile.sightings import prune_sightings

RESULTS_KEPT_DAYS = 30
PARTS_KEPT = timedelta(seconds=SWEEP_SECONDS_MAX)
"""Results of a part of the keys that found no difference are kept for one rotation of the sweep."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How many rows of each table were deleted."""

    results: int
    figures: int
    sightings: int


def prune_comparisons(control_dsn: str, now: datetime) -> Pruned:
    """Delete what is older than stated above, but never the newest result of a pair in a pod."""
    before = now - timedelta(days=RESULTS_KEPT_DAYS)
    return Pruned(
        results=prune_results(control_dsn, before, before_parts=now - PARTS_KEPT),
        figures=prune_figures(control_dsn, before),
        sightings=prune_sightings(control_dsn, before),
    )
