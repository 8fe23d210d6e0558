"""Where the seconds of a repair went: its steps, and those of its comparisons, each with when it was reached.

Belongs here: that list. Does not belong here: storing it (`repair/audit.py`), which steps there are
(`repair/repair_run.py`, `reconcile/comparison_run.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

STEPS_KEPT = 500
"""A repair has some dozens of steps; of one that has more, the first are kept."""


@dataclass(kw_only=True)
class Trace:
    """The steps that were reached, in order."""

    monotonic: Callable[[], float] = time.monotonic
    steps: list[tuple[str, float]] = field(default_factory=list)
    """Step -> seconds since the trace began."""
    began: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin now."""
        self.began = self.monotonic()

    def reached(self, step: str) -> None:
        """Note that a step was reached."""
        if len(self.steps) < STEPS_KEPT:
            self.steps.append((step, round(self.monotonic() - self.began, 3)))
