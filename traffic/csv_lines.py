"""Counting the physical lines that a CSV parser reads, and finding quotes that do not close.

Belongs here: which lines a record consists of, for every CSV format that is imported. Does not belong here: the columns
(`retail/files.py`, `orders/reading.py`).
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from contracts.errors import InputError

LINE_CHARACTERS_MAX = 100_000
RECORD_LINES_MAX = 100


@dataclass(kw_only=True)
class CsvLines:
    """An iterator over the physical lines of a text. It counts the lines and keeps those of the present record."""

    path: Path
    text: io.TextIOWrapper
    columns: int
    """The number of columns of a complete record."""
    separator: str = ","
    read: int = 0
    current: list[str] = field(default_factory=list)

    def __iter__(self) -> CsvLines:
        return self

    def __next__(self) -> str:
        line = self.text.readline(LINE_CHARACTERS_MAX + 1)
        if not line:
            raise StopIteration
        self.read += 1
        if len(line) > LINE_CHARACTERS_MAX:
            raise InputError(
                f"File {self.path}, line {self.read}, has more than {LINE_CHARACTERS_MAX:,} characters; no row has."
            )
        self.current.append(line)
        if len(self.current) > 1:
            self._continue(line)
        return line

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        taken, self.current = self.current, []
        return taken

    def _continue(self, line: str) -> None:
        """Raise InputError when a later line of a record is a complete record: then a quote was never closed."""
        is_record = len(_split(line, self.separator)) >= self.columns
        if is_record or len(self.current) > RECORD_LINES_MAX:
            begin = self.read - len(self.current) + 1
            why = "reads as a row of its own" if is_record else "is still not its end"
            raise InputError(
                f"File {self.path}, line {begin}: a quote opens there and does not close before line {self.read}, "
                f"which {why}; remove the quote or double it, and import the file again."
            )


def misquoted(lines: CsvLines) -> list[str]:
    """Return the fields of a line with misplaced quotes, split at separators only; InputError for several lines."""
    begin = lines.read - len(lines.current) + 1
    if len(lines.current) > 1 or not lines.current:
        raise InputError(
            f"File {lines.path}, line {begin}: a quote opens there and closes in the wrong place, or never; remove the "
            "quote or double it, and import the file again."
        )
    return _split(lines.current[0], lines.separator)


def _split(line: str, separator: str) -> list[str]:
    """Return the fields of one line, split at every separator; quotes have no meaning."""
    return next(csv.reader([line], quoting=csv.QUOTE_NONE, delimiter=separator), [])
