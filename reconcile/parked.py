"""Aggregates that a copy has parked. A comparison leaves them out, and reports them once they wait too long.

Belongs here: how long each has waited, and when that becomes a difference. Does not belong here: reading a copy's
parked events (`reconcile/lake_side.py`, `reconcile/read_model_pairs.py`).
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
    """An aggregate whose event could not be applied; it and all later events of the aggregate wait since then."""

    key: str
    events: int
    """Number of its events that wait."""
    parked_at: datetime
    """When the first of them was parked."""
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
    """Return the aggregates that wait for longer than `late_seconds_max`, as differences of the class `parked`."""
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
