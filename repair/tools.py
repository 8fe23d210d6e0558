"""What a repair is given by its caller: it starts nothing, compares nothing and builds nothing by itself.

Belongs here: the values and callables that `stack/` and `orchestration/` pass in. Does not belong here: making them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from contracts.clock import Clock, utc_now
from contracts.settings import Settings
from contracts.verdicts import PairResult
from streams.projection import Projection

Recheck = Callable[[Collection[str], Collection[str]], Sequence[PairResult]]
"""Names of pairs, names of pods -> what comparing them at new cuts finds, with all keys that differ."""

Build = Callable[[Mapping[str, int], bool], Mapping[str, int]]
"""Pod -> the cut after which the warehouse is computed again, whether from nothing -> the cuts at which it stands."""

OnStep = Callable[[str], None]
"""Called after every step that a crash may follow; tests kill the process in it."""


@dataclass(frozen=True, kw_only=True)
class Repairing:
    """Everything that a run of repairs needs."""

    settings: Settings
    recheck: Recheck
    build: Build
    projection: Callable[[str], Projection]
    """Name of the lake or of a view -> the projection."""
    clean: Callable[[str], str] = str
    """Takes secrets out of other programs' messages."""
    clock: Clock = utc_now
    on_step: OnStep = lambda name: None
    attempts_max: int = 3
    """Repairs of one break before people are asked."""
    lease_seconds: float = 900.0
    """For how long nobody else takes what a run has claimed; a run that was killed is noticed at once all the same."""
