"""What a copy says when somebody asks it about a sale.

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
    """What a copy says about a sale."""

    facts: Any
    """What it says, to be compared with a later answer; falsy when it does not know the sale."""
    cut: int
    """Up to which cut of the sale's pod it goes."""
    data_at: datetime | None
    age_seconds: float | None


def dated(facts: Sequence[str], freshness: Freshness, pod: str) -> Answer:
    """Return what a read model says, with how old its knowledge of that pod is."""
    (standing,) = [one for one in freshness.pods if one.pod == pod]
    return Answer(
        facts=list(facts), cut=standing.applied_cut, data_at=standing.data_at, age_seconds=standing.age_seconds
    )
