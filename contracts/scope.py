"""The scope of an incremental comparison: ranges of keys, and single aggregates.

Ids of all aggregate types are in one key space, ordered byte by byte, so a range of it holds a share of every type.
Belongs here: the values that the comparison, its coverage and the ledger of breaks agree on. Does not belong here: how
a scope is chosen (`reconcile/sweep.py`) or applied (`reconcile/scoping.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ScopeUnit(StrEnum):
    """The unit of a scope's ranges."""

    AGGREGATE = "aggregate"
    """Ids of aggregates."""
    CUT = "cut"
    """Cut numbers, as text of twenty digits."""


@dataclass(frozen=True, kw_only=True)
class KeyRange:
    """Keys greater than `above` (None: from the first on) and up to `through` (None: to the last)."""

    above: str | None = None
    through: str | None = None

    def has(self, key: str) -> bool:
        """Return whether a key is in it."""
        return (self.above is None or key > self.above) and (self.through is None or key <= self.through)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an incremental comparison of a pair in a pod covered: changed keys, suspected keys, and a part of the rest.

    With `has_changes`, every aggregate with an event in a cut after `since_cut`, up to `through_cut`, is among `ids`.
    """

    since_cut: int
    through_cut: int
    has_changes: bool = True
    """Whether it holds what changed, too; False: only keys that somebody named, and those with unended breaks."""
    ranges: tuple[KeyRange, ...] = ()
    """The ranges of the sweep, which are compared whether or not anything in them changed."""
    ids: frozenset[str] = frozenset()
    """Aggregates that are compared even when they are outside of `ranges`."""
    id_count: int = 0
    """Number of these aggregates; a stored result lists only some of them."""
    unit: ScopeUnit = ScopeUnit.AGGREGATE

    def covers(self, aggregate_id: str) -> bool:
        """Return whether an aggregate was compared."""
        if self.unit is not ScopeUnit.AGGREGATE:
            return False
        return aggregate_id in self.ids or any(one.has(aggregate_id) for one in self.ranges)
