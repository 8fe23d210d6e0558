"""A break: one key on which two stores do not agree, from the comparison that found it to its end.

Belongs here: the values and the states, which the ledger, repairs, alerts and reports agree on. Does not belong here:
what a comparison found once (`contracts/verdicts.py`), the ledger's tables (`repair/ledger/recording.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from contracts.ownership import WAREHOUSE, family_of
from contracts.verdicts import ColumnDifference, DifferenceClass


class BreakState(StrEnum):
    """Where a break stands."""

    OPEN = "open"
    """A comparison found it; no repair has claimed it."""
    REPAIRING = "repairing"
    """A repair has claimed it and holds a lease on it."""
    ESCALATED = "escalated"
    """A person must decide: the contract says so, or repairs did not remove the difference."""
    ACCEPTED = "accepted"
    """A person has accepted the difference, with a reason. It stays listed; it is not repaired and not alerted."""
    REPAIRED = "repaired"
    """Ended: a repair changed something for it, and a comparison at a later cut found the key in order."""
    VANISHED = "vanished"
    """Ended: a comparison at a later cut found the key in order, although no repair changed anything."""


TRANSITIONS: dict[BreakState, frozenset[BreakState]] = {
    BreakState.OPEN: frozenset(
        {BreakState.REPAIRING, BreakState.ESCALATED, BreakState.ACCEPTED, BreakState.REPAIRED, BreakState.VANISHED}
    ),
    BreakState.REPAIRING: frozenset({BreakState.OPEN, BreakState.REPAIRED, BreakState.VANISHED, BreakState.ESCALATED}),
    BreakState.ESCALATED: frozenset(
        {BreakState.OPEN, BreakState.REPAIRING, BreakState.ACCEPTED, BreakState.REPAIRED, BreakState.VANISHED}
    ),
    BreakState.ACCEPTED: frozenset({BreakState.OPEN, BreakState.VANISHED}),
    BreakState.REPAIRED: frozenset(),
    BreakState.VANISHED: frozenset(),
}
"""State -> the states that may follow it. When a key differs again after its break has ended, that is a new break."""

ENDED = frozenset({BreakState.REPAIRED, BreakState.VANISHED})
UNSETTLED = frozenset({BreakState.OPEN, BreakState.REPAIRING, BreakState.ESCALATED})
"""Breaks in these states block the closing of a period."""

DATA_PLATFORM, FINANCE = "data-platform", "finance"
"""The teams that are responsible for breaks; Dagster's graph uses the same names."""


def team_of(pair: str) -> str:
    """Return the team that is responsible for the breaks of a pair until a person is assigned."""
    return FINANCE if family_of(pair) in WAREHOUSE.found_by else DATA_PLATFORM


@dataclass(frozen=True, kw_only=True)
class Break:
    """One key that does not agree."""

    break_id: int
    group_id: int
    """Its incident: all breaks of one pair, pod and class that were found together."""
    pair: str
    pod: str
    entity: str
    """What the key names, e.g. `order_lines` in the pair `oltp_lake.order`."""
    key: tuple[str | None, ...]
    kind: DifferenceClass
    """The class that the newest comparison gave it."""
    merchant_id: str | None
    day: str | None
    currency: str | None
    columns: tuple[ColumnDifference, ...]
    """Both values and the signed difference, as the newest comparison saw them."""
    aggregate_key: str | None = None
    """The aggregate that the row belongs to (`contracts.ids.aggregate_key`); None for sums over several."""
    state: BreakState
    owner: str
    """The team that is responsible by the contract, or the person it was assigned to."""
    reason: str
    """Why it is escalated, accepted or ended."""
    first_seen_at: datetime
    first_seen_cut: int | None
    last_seen_at: datetime
    last_seen_cut: int | None
    times_seen: int
    repairs: int
    """How many repairs were tried."""
    ended_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the break as values that JSON can hold."""
        moments = ("first_seen_at", "last_seen_at", "ended_at")
        texts = {name: moment.isoformat() for name in moments if (moment := getattr(self, name)) is not None}
        return {**asdict(self), **texts}


@dataclass(frozen=True, kw_only=True)
class BreakGroup:
    """One incident: breaks of one pair, pod and class that were found together. People are alerted once for all."""

    group_id: int
    pair: str
    pod: str
    kind: DifferenceClass
    opened_at: datetime
    opened_cut: int | None
    opened_run: str
    """The run whose comparison found it; a repair, a person or Dagster started that run."""
    keys: int
    """Number of keys that the incident ever had. It is exact even when fewer keys are stored as breaks."""
    counts: dict[BreakState, int]
    """Breaks by state."""

    @property
    def is_ended(self) -> bool:
        """Whether every break of it has ended."""
        return not any(number for state, number in self.counts.items() if state not in ENDED)
