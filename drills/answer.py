"""The answer of a copy to a query about a sale.

Belongs here: the value. Does not belong here: asking (`drills/answers.py`, `drills/copies/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from derived.read_models.answers import Freshness


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a copy about a sale."""

    facts: Any
    """The facts in the answer, to compare with a later answer; empty when the copy does not have the sale."""
    cut: int
    """The newest cut of the sale's pod that the copy has applied."""
    data_at: datetime | None
    age_seconds: float | None


def dated(facts: Sequence[str], freshness: Freshness, pod: str) -> Answer:
    """Return the answer of a read model, with the cut and the age of its data for this pod."""
    (standing,) = [one for one in freshness.pods if one.pod == pod]
    return Answer(
        facts=list(facts), cut=standing.applied_cut, data_at=standing.data_at, age_seconds=standing.age_seconds
    )
