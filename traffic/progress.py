"""How long work in this folder tells its caller how far it is.

Belongs here: the form of a progress report. Does not belong here: showing it (`cli/`).
"""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
"""Called with (step, done, total): a step in words, e.g. ``placing orders``, and how many of its parts are done."""


def no_progress(step: str, done: int, total: int) -> None:
    """Report to nobody."""
