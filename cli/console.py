"""Output of the commands: progress of their steps on standard error, answers on standard output.

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
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from contracts.text import escaped_in_json, visible, visible_lines

HEARTBEAT_SECONDS = 5.0
"""How often we print the progress of a step when the output is no terminal."""


@dataclass(kw_only=True)
class ShownStep:
    """One step in progress, as the console shows it (implements `contracts.progress.Step`)."""

    title: str
    place: str = ""
    """Number of the step and of all steps, e.g. `[2/5] `; empty if they are not known."""
    rest: str = ""
    """The steps after it, in words."""
    started: float = field(default_factory=time.monotonic)
    detail: str = ""
    result: str = ""
    is_given_up: bool = False

    def say(self, detail: str) -> None:
        """Set a few words on how far the step is; not shown any more when it has ended."""
        self.detail = detail

    def conclude(self, result: str) -> None:
        """Set a few words on the result; shown beside the ended step."""
        self.detail = self.result = result

    def give_up(self, lacking: str) -> None:
        """End it without a tick: the work continues, and we no longer wait for what is lacking."""
        self.result, self.is_given_up = lacking, True

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self.started

    def line(self) -> str:
        """Place, title, detail and seconds in one line."""
        return self._line(self.detail)

    def last_line(self) -> str:
        """The line of an ended step: with its result instead of its last detail."""
        return self._line(self.result)

    def _line(self, detail: str) -> str:
        return f"{self.place}{self.title}{f': {detail}' if detail else ''} ({self.seconds:.1f} s)"


@dataclass(kw_only=True)
class ConsoleProgress:
    """Shows steps on standard error: a line with a spinner on a terminal, else plain lines (`contracts.progress`)."""

    console: Console = field(default_factory=lambda: VisibleConsole(stderr=True, highlight=False, soft_wrap=True))
    plan: Sequence[str] = ()
    """The planned steps, if they are known. The first word of each is unique: it identifies the step when it starts, so
    that we can show its number and the steps after it.
    """

    @contextmanager
    def step(self, title: str) -> Iterator[ShownStep]:
        """Show the step `title` as running until the block ends."""
        step = self._placed(title)
        shown = self._moving(step) if self.console.is_terminal else self._plain(step)
        with shown:
            yield step
        mark = Text("… ", style="yellow") if step.is_given_up else Text("✓ ", style="green")
        self.console.print(mark + Text(step.last_line()))

    def _placed(self, title: str) -> ShownStep:
        for number, planned in enumerate(self.plan, start=1):
            if title.partition(" ")[0] == planned.partition(" ")[0]:
                rest = ", ".join(one[0].lower() + one[1:] for one in self.plan[number:])
                return ShownStep(
                    title=title, place=f"[{number}/{len(self.plan)}] ", rest=f"; then {rest}" if rest else ""
                )
        return ShownStep(title=title)

    def note(self, text: str) -> None:
        """Say something that is not a step."""
        self.console.print(text)

    @contextmanager
    def _moving(self, step: ShownStep) -> Iterator[None]:
        spinner = Spinner("dots")

        def line() -> Spinner:
            spinner.update(text=step.line() + step.rest)
            return spinner

        with Live(get_renderable=line, console=self.console, refresh_per_second=8, transient=True):
            yield

    @contextmanager
    def _plain(self, step: ShownStep) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                self.console.print(f"  {step.line()} ...{step.rest}")

        heart = threading.Thread(target=beat, name="progress", daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()


class VisibleConsole(Console):
    """A console that escapes control characters: a terminal cannot execute what a stored text contains.

    We escape in this one place, so that no command has to. The console adds styles afterwards.
    """

    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        """Yield the segments to write, with control characters in their texts made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible_lines(segment.text), segment.style)


def print_json(answer: Any) -> None:
    """Print an answer for programs: one JSON document on standard output; invisible characters are escaped."""
    text = json.dumps(answer, indent=2, ensure_ascii=False, default=str)
    lines = (escaped_in_json(line) for line in text.split("\n"))
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def print_text(text: str, stream: TextIO) -> None:
    """Print a text: unchanged to a file or pipe, with escaped control characters to a terminal."""
    stream.write(visible_lines(text) if stream.isatty() else text)
    stream.flush()


def print_error(error: BaseException) -> None:
    """Print an error's sentence on standard error."""
    sys.stderr.write(f"{visible_lines(str(error))}\n")


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]], *, numbers_from: int = 1) -> Table:
    """Return a table whose columns from `numbers_from` on are aligned to the right."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="right" if index >= numbers_from else "left", overflow="fold")
    for row in rows:
        # Escape before Rich measures the columns: escaping makes texts longer, and the lines would not align.
        made.add_row(*(visible(str(cell)) for cell in row))
    return made


def answers() -> VisibleConsole:
    """Return the console of standard output; 300 columns wide if that is no terminal."""
    console = VisibleConsole(highlight=False)
    return console if console.is_terminal else VisibleConsole(highlight=False, width=300)
