"""Files of rejected orders: whole orders in their original form with the reason, to be corrected and imported again.

Belongs here: writing one such file per input file. Does not belong here: why orders are rejected.

In CSV, the columns `reject_file`, `reject_line`, `reject_reason` and `reject_detail` are added before the file's own
columns; in JSON Lines, each object gets the name `reject`. An import ignores both.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from traffic.drafts import Draft
from traffic.orders.mapping import REJECT_PREFIX
from traffic.orders.reading import RawOrder, Source

COLUMNS = tuple(f"{REJECT_PREFIX}{name}" for name in ("file", "line", "reason", "detail"))
JSON_NAME = "reject"

_JSON = msgspec.json.Decoder(float_hook=Decimal)


class RejectsFiles:
    """One file of rejects per order file, created with the first rejected order; it replaces the last run's file."""

    def __init__(self, var_dir: Path, sources: Sequence[Source], separator: str) -> None:
        self._sources = sources
        self._separator = separator
        self._drafts = [Draft(path) for path in _paths(var_dir / "imports", sources)]
        self._files: dict[int, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Remove the files of earlier runs."""
        for draft in self._drafts:
            self._stack.enter_context(draft)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the files, and give them their final names if no error was raised."""
        self._stack.__exit__(kind, error, traceback)

    @property
    def written(self) -> dict[int, str]:
        """Return the paths of the written files, by the index of the order file."""
        return {number: str(draft.path) for number, draft in enumerate(self._drafts) if draft.is_written}

    def add(self, raw: RawOrder, reason: str, detail: str) -> None:
        """Write one rejected order."""
        source = self._sources[raw.file]
        about = (source.path.name, raw.line, reason, detail)
        if source.is_json:
            self._file(raw.file).write(_json_line(raw.rows[0][0], about) + "\n")
            return
        own = [place for place, name in enumerate(source.header) if not name.startswith(REJECT_PREFIX)]
        writer = csv.writer(self._file(raw.file), delimiter=self._separator)
        for row in raw.rows:
            is_whole = len(row) == len(source.header)
            writer.writerow([*about, *([row[place] for place in own] if is_whole else row)])

    def _file(self, number: int) -> Any:
        if number not in self._files:
            self._files[number] = self._drafts[number].file()
            source = self._sources[number]
            if not source.is_json:
                own = [name for name in source.header if not name.startswith(REJECT_PREFIX)]
                csv.writer(self._files[number], delimiter=self._separator).writerow([*COLUMNS, *own])
        return self._files[number]


def _paths(folder: Path, sources: Sequence[Source]) -> list[Path]:
    paths: list[Path] = []
    for source in sources:
        stem, suffix = f"rejects-{source.path.name.split('.')[0]}", "jsonl" if source.is_json else "csv"
        path = folder / f"{stem}.{suffix}"
        if path in paths:
            path = folder / f"{stem}-{len(paths) + 1}.{suffix}"
        paths.append(path)
    return paths


def _json_line(text: str, about: tuple[str, int, str, str]) -> str:
    """Return the object with the reason as its first name; a text that is not an object is put into one."""
    file, line, reason, detail = about
    said: dict[str, Any] = {"file": file, "line": line, "reason": reason, "detail": detail}
    try:
        given = _JSON.decode(text)
    except (msgspec.DecodeError, RecursionError, ArithmeticError):
        given = None
    if not isinstance(given, dict):
        return msgspec.json.encode({JSON_NAME: {**said, "text": text}}).decode()
    if JSON_NAME in given or not given:
        return msgspec.json.encode({**given, JSON_NAME: said}).decode()
    # Keep the text unchanged, so that the user finds exactly what was sent.
    return msgspec.json.encode({JSON_NAME: said}).decode()[:-1] + "," + text[1:]
