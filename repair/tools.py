"""What the caller gives to a repair: a repair itself starts no comparison, no build and no process.

Belongs here: the values and callables that `stack/` and `orchestration/` pass in. Does not belong here: making them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from contracts.clock import Clock, utc_now
from contracts.settings import Settings
from contracts.verdicts import PairResult
from repair.trace import Trace
from streams.projection import Projection

BuildTo = Callable[[Mapping[str, int]], Mapping[str, int]]
"""Pod -> wanted cut; builds the warehouse, and returns pod -> its cut afterwards."""


class Recheck(Protocol):
    """Compares pairs in pods at new cuts."""

    def __call__(
        self,
        pairs: Collection[str],
        pods: Collection[str],
        keys: Mapping[str, Collection[str]] = ...,
        build: BuildTo | None = None,
        /,
    ) -> Sequence[PairResult]:
        """Return the results, with all keys that differ.

        In a pod that is in `keys` (pod -> aggregate ids) only these ids and what has unended breaks are compared; the
        scope of such a result says so. In other pods every key is.

        `build` brings the warehouse to the cuts, where a pair needs that; None: it is built as far as it is missing.
        """


Build = Callable[[Mapping[str, int], bool, Sequence[str]], Mapping[str, int]]
"""(Pod -> cut after which the warehouse is built again, whether it is a full build, the stored tables that are built;
none: all) -> pod -> cut of the build.
"""

OnStep = Callable[[str], None]
"""Called after every step; tests kill the process in it."""


@dataclass(frozen=True, kw_only=True)
class Repairing:
    """Everything that a run of repairs needs."""

    settings: Settings
    recheck: Recheck
    build: Build
    prepare_build: Callable[[], None] = lambda: None
    """Lets a build be prepared while other steps run; called when one is to be expected."""
    projection: Callable[[str], Projection]
    """Name of the lake or of a view -> the projection."""
    clean: Callable[[str], str] = str
    """Removes secrets from other programs' messages."""
    clock: Clock = utc_now
    on_step: OnStep = lambda name: None
    trace: Trace = field(default_factory=Trace)
    """The steps that runs with these tools have reached; kept with each run."""
    attempts_max: int = 3
    """Largest number of repairs of one break before it is escalated."""
    lease_seconds: float = 900.0
    """Lease of claimed breaks. The locks show a killed run at once, so nobody has to wait for the end of its lease."""
