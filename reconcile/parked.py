"""Aggregates that a copy has parked: left out of a comparison, and a difference of their own once they wait too long.

Belongs here: how long each has waited, and from when on that is a break. Does not belong here: reading where a copy
keeps them (`reconcile/lake_pairs.py`, `reconcile/read_model_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from contracts.verdicts import ColumnDifference, Difference, DifferenceClass
from reconcile.compare import Limits, Outcome

ENTITY = "parked"


@dataclass(frozen=True, kw_only=True)
class ParkedAggregate:
    """An aggregate of which an event could not be applied, and that waits since then."""

    key: str
    events: int
    """How many of its events wait."""
    parked_at: datetime
    """Since when."""
    error: str
    """Why the first of them could not be applied."""

    @property
    def aggregate_type(self) -> str:
        """The type in its key."""
        return self.key.split("/", 2)[1]

    @property
    def aggregate_id(self) -> str:
        """The id in its key."""
        return self.key.split("/", 2)[2]


def overdue(parked: Sequence[ParkedAggregate], now: datetime, late_seconds_max: float, limits: Limits) -> Outcome:
    """Return those that wait for longer than the copy may be late, as differences of the class `parked`."""
    waiting = [one for one in parked if (now - one.parked_at).total_seconds() > late_seconds_max]
    waiting.sort(key=lambda one: (one.parked_at, one.key))
    return Outcome(
        compared=0,
        classes={DifferenceClass.PARKED: len(waiting)} if waiting else {},
        sample=tuple(_difference(one) for one in waiting[: limits.sample]),
    )


def _difference(one: ParkedAggregate) -> Difference:
    since = one.parked_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return Difference(
        entity=ENTITY,
        key=(one.key,),
        kind=DifferenceClass.PARKED,
        merchant_id=one.key.split("/", 1)[0],
        aggregate_key=one.key,
        columns=(
            ColumnDifference(column="events", left=one.events, right=None),
            ColumnDifference(column="parked_at", left=since, right=None),
            ColumnDifference(column="error", left=one.error, right=None),
        ),
    )
