"""The folder of Data Docs: where the pages are, and how old ones are deleted. Great Expectations is not used here.

Belongs here: the folder's layout. Does not belong here: writing pages (`judge.py`), serving them
(`stack/processes/workers.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from checks.expectations.standalone import PageEntry, index_page, stand_alone

RESULTS = "results"
PAGES = "site"
RUNS_KEPT = 8
"""Runs kept of each suite in each pod; with a run every quarter of an hour, this is the last two hours."""


def prune(folder: Path, kept: int = RUNS_KEPT) -> int:
    """Delete results and pages of all but the newest `kept` runs of every suite; return the number of deleted runs."""
    old = [run for part in (folder / RESULTS, folder / PAGES / "validations") for run in _old_runs(part, kept)]
    for run in old:
        shutil.rmtree(run, ignore_errors=True)
    return len({run.name for run in old})


def finish(folder: Path, run: str) -> None:
    """Make the pages of a run stand alone, and write the index of all stored pages."""
    site = folder / PAGES
    for page in (site / "validations").glob(f"*/*/*/{run}/*/*.html"):
        page.write_text(stand_alone(page.read_text(encoding="utf-8")), encoding="utf-8")
    entries = [_entry(folder, result) for result in (folder / RESULTS).glob("*/*/*/*/*/*.json")]
    (site / "index.html").write_text(index_page(entries), encoding="utf-8")


def _entry(folder: Path, path: Path) -> PageEntry:
    result = json.loads(path.read_text(encoding="utf-8"))
    return PageEntry(
        name=result["suite_name"],
        run_at=result["meta"]["run_id"]["run_time"],
        met=result["statistics"]["successful_expectations"],
        expectations=result["statistics"]["evaluated_expectations"],
        page=f"validations/{path.relative_to(folder / RESULTS).with_suffix('.html')}",
    )


def _old_runs(part: Path, kept: int) -> list[Path]:
    # store / suite / pod / run / time: the names of the times sort by time.
    found = []
    for suite in part.glob("*/*/*"):
        runs = [run for run in suite.iterdir() if run.is_dir()]
        runs.sort(key=lambda run: max((moment.name for moment in run.iterdir()), default=""), reverse=True)
        found += runs[kept:]
    return found
