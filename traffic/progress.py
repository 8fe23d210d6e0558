"""Progress reports of long-running work in this folder.

Belongs here: the type of a progress report. Does not belong here: showing it (`stack/`).
"""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
"""Called with (step, done, total): the step in words, e.g. ``placing orders``, and how many of its items are done."""


def no_progress(step: str, done: int, total: int) -> None:
    """Ignore the progress."""
