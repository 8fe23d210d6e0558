"""The file of rejected rows: every row that an import did not take, with its reason.

Belongs here: writing that file. Does not belong here: why rows are rejected (`rows.py`, `rules.py`).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from traffic.retail.files import COLUMNS
from traffic.retail.rows import Rejection

HEADER = ("File", "Line", "Reason", "Detail", *COLUMNS)


class RejectsFile:
    """Written from the first rejection on; without one there is none. Replaces that of these files' last run."""

    def __init__(self, var_dir: Path, paths: Sequence[Path]) -> None:
        more = f"-and-{len(paths) - 1}-more" if len(paths) > 1 else ""
        self.path = var_dir / "imports" / f"rejects-{paths[0].name.split('.')[0]}{more}.csv"
        self.is_written = False
        self._draft = self.path.with_name(f".{self.path.name}")
        self._paths = paths
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Remove the file of an earlier run."""
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, and give it its name if it is whole."""
        try:
            self._stack.close()
            if self.is_written and error is None:
                self._draft.replace(self.path)
        finally:
            self._draft.unlink(missing_ok=True)

    def add(self, rejection: Rejection) -> None:
        """Write one rejected row."""
        if not self.is_written:
            self._open()
        self._writer.writerow(
            (self._paths[rejection.file].name, rejection.line, rejection.reason, rejection.detail, *rejection.fields)
        )

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self._stack.enter_context(self._draft.open("w", encoding="utf-8", newline=""))
        self._writer = csv.writer(file)
        self._writer.writerow(HEADER)
        self.is_written = True
