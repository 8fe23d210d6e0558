"""The file of rejected rows: every row that an import did not book, with its reason.

Belongs here: writing that file. Does not belong here: why rows are rejected (`rows.py`, `rules.py`).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from traffic.drafts import Draft
from traffic.retail.files import COLUMNS
from traffic.retail.rows import Rejection

HEADER = ("File", "Line", "Reason", "Detail", *COLUMNS)


class RejectsFile(Draft):
    """A file that is created by the first rejection. It replaces the file of the last run of the same input files."""

    def __init__(self, var_dir: Path, paths: Sequence[Path]) -> None:
        more = f"-and-{len(paths) - 1}-more" if len(paths) > 1 else ""
        super().__init__(var_dir / "imports" / f"rejects-{paths[0].name.split('.')[0]}{more}.csv")
        self._paths = paths

    def add(self, rejection: Rejection) -> None:
        """Write one rejected row."""
        if not self.is_written:
            self._writer = csv.writer(self.file())
            self._writer.writerow(HEADER)
        self._writer.writerow(
            (self._paths[rejection.file].name, rejection.line, rejection.reason, rejection.detail, *rejection.fields)
        )
