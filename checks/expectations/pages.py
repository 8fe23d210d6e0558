"""The folder of Data Docs: where the pages are, and how old ones go. No Great Expectations here.

Belongs here: the folder's layout. Does not belong here: writing pages (`judge.py`), serving them (`stack/workers.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

RESULTS = "results"
PAGES = "site"
RUNS_KEPT = 5
"""Of each suite in each pod; with an hourly run the last hours can be looked at."""


def prune(folder: Path, kept: int = RUNS_KEPT) -> int:
    """Delete results and pages of all but the newest runs of every suite; return how many runs went."""
    old = [run for part in (folder / RESULTS, folder / PAGES / "validations") for run in _old_runs(part, kept)]
    for run in old:
        shutil.rmtree(run, ignore_errors=True)
    return len({run.name for run in old})


def _old_runs(part: Path, kept: int) -> list[Path]:
    # store / suite / pod / run / moment: the moments' names sort by time.
    found = []
    for suite in part.glob("*/*/*"):
        runs = [run for run in suite.iterdir() if run.is_dir()]
        runs.sort(key=lambda run: max((moment.name for moment in run.iterdir()), default=""), reverse=True)
        found += runs[kept:]
    return found
