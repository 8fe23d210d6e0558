"""What the commands show while they work: steps with progress on the error stream, answers on the standard one.

Belongs here: how progress and answers look. Does not belong here: what is done.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

HEARTBEAT_SECONDS = 5.0
"""How often a step says where it is when the output is no terminal."""


@dataclass(kw_only=True)
class Step:
    """One step in progress; whoever does it says how far it is."""

    title: str
    started: float = field(default_factory=time.monotonic)
    detail: str = ""

    def progress(self, done: int, total: int | None = None, unit: str = "") -> None:
        """Say how many are done, of how many if that is known."""
        of = f" of {total:,}" if total else ""
        self.detail = f"{done:,}{of} {unit}".rstrip()

    def say(self, detail: str) -> None:
        """Say in a few words where the step is."""
        self.detail = detail

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self.started

    def line(self) -> str:
        """Title, detail and seconds in one line."""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.title}{detail} ({self.seconds:.1f} s)"


@dataclass(kw_only=True)
class Progress:
    """Shows steps on the error stream: a moving line on a terminal, plain lines elsewhere, nothing when quiet."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))
    is_quiet: bool = False

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show that `title` is under way until the block ends."""
        step = Step(title=title)
        if self.is_quiet:
            yield step
            return
        shown = self._moving(step) if self.console.is_terminal else self._plain(step)
        with shown:
            yield step
        self.console.print(Text("✓ ", style="green") + Text(step.line()))

    def note(self, text: str) -> None:
        """Say something that is not a step."""
        if not self.is_quiet:
            self.console.print(text)

    @contextmanager
    def _moving(self, step: Step) -> Iterator[None]:
        spinner = Spinner("dots")

        def line() -> Spinner:
            spinner.update(text=step.line())
            return spinner

        with Live(get_renderable=line, console=self.console, refresh_per_second=8, transient=True):
            yield

    @contextmanager
    def _plain(self, step: Step) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                self.console.print(f"  {step.line()} ...")

        heart = threading.Thread(target=beat, name="progress", daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()


def print_json(answer: Any) -> None:
    """Print an answer for programs: one JSON document on the standard output."""
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]], *, numbers_from: int = 1) -> Table:
    """Return a table whose columns from `numbers_from` on are aligned to the right."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="right" if index >= numbers_from else "left", overflow="fold")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    return made


def answers() -> Console:
    """Return the console of the standard output; as wide as needed when that is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=300)
