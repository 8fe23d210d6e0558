"""How far work is, told to whoever started it: the port between what works and what shows it.

Belongs here: what work may say of itself. Does not belong here: showing it (`cli/console.py` does so on a terminal).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """One step in progress; whoever does it says how far it is."""

    def say(self, detail: str) -> None:
        """Say in a few words where the step is; no longer shown when it has ended."""

    def conclude(self, result: str) -> None:
        """Say in a few words what came of it; stays beside the ended step."""

    def give_up(self, lacking: str) -> None:
        """End it without a tick: the work goes on, and nobody waits any longer for what is lacking."""


class Progress(Protocol):
    """Who is told of steps and of what is no step."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """Show that `title` is under way until the block ends."""

    def note(self, text: str) -> None:
        """Say something that is not a step."""


class _Unheard:
    """A step, and the progress of steps, that nobody hears of."""

    def say(self, detail: str) -> None:
        pass

    def conclude(self, result: str) -> None:
        pass

    def give_up(self, lacking: str) -> None:
        pass

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        yield self

    def note(self, text: str) -> None:
        pass


SILENT: Progress = _Unheard()
"""For work that nobody watches: a worker's, a sensor's, a test's."""
