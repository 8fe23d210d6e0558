"""A file that gets its final name only when it is complete; if nothing was written, no file exists.

Belongs here: creating and renaming the file. Does not belong here: its content (`retail/rejects.py`,
`orders/rejects.py`).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO


class Draft:
    """A file that is created by the first call of `file`. It replaces the file of an earlier run at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_written = False
        self._draft = path.with_name(f".{path.name}")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Remove the file of an earlier run."""
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, and rename it to `path` if no error was raised."""
        try:
            self._stack.close()
            if self.is_written and error is None:
                self._draft.replace(self.path)
        finally:
            self._draft.unlink(missing_ok=True)

    def file(self) -> TextIO:
        """Return the new file, open for writing; called once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.is_written = True
        return self._stack.enter_context(self._draft.open("w", encoding="utf-8", newline=""))
