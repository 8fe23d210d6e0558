"""Evidence: a JSON file per drill and an HTML page per run, both readable without this system.

Belongs here: the files. Does not belong here: their content (`drills/observing.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from contracts.drills import DrillTest, drills_named
from contracts.ownership import COPIES
from contracts.text import counted
from drills.observing import Outcome, outcome_from_json

TEMPLATE = Path(__file__).parent / "templates" / "drills.html"
PAGE = "index.html"


@dataclass(frozen=True, kw_only=True)
class DrillRun:
    """The properties of a run."""

    run: str
    """The name of the run and of its folder."""
    code_version: str
    orders_per_second: float
    started_at: datetime


def evidence_file(folder: Path, outcome: Outcome) -> Path:
    """Return the path of a drill's evidence."""
    return folder / f"{outcome.system}-{outcome.test}.json"


def write_evidence(folder: Path, run: DrillRun, outcome: Outcome) -> Path:
    """Write a drill's evidence, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = evidence_file(folder, outcome)
    (drill,) = drills_named(outcome.system, outcome.test)
    content: dict[str, Any] = {
        "run": run.run,
        "code_version": run.code_version,
        "orders_per_second": run.orders_per_second,
        "breaks": drill.breaks,
        "recovers": drill.recovers,
        "promises": {promise.value: promise.words for promise in drill.promises},
        **outcome.as_json(),
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_evidence(path: Path) -> Outcome:
    """Return the outcome stored in a file."""
    values = json.loads(path.read_text(encoding="utf-8"))
    described = ("run", "code_version", "orders_per_second", "breaks", "recovers", "promises")
    return outcome_from_json({name: value for name, value in values.items() if name not in described})


def write_page(folder: Path, run: DrillRun, outcomes: Sequence[Outcome]) -> Path:
    """Write the page for the drills of a run so far, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PAGE
    path.write_text(page(run, outcomes), encoding="utf-8")
    return path


def page(run: DrillRun, outcomes: Sequence[Outcome]) -> str:
    """Return the HTML page: the matrix, then every drill with all its observations. It loads no external files."""
    by_cell = {(outcome.system, outcome.test): outcome for outcome in outcomes}
    return _template().render(
        run=run,
        started=f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC",
        conclusion=conclusion(outcomes),
        has_held=all(outcome.has_held for outcome in outcomes),
        tests=[test.value for test in DrillTest],
        matrix=[(copy, [by_cell.get((copy.name, test.value)) for test in DrillTest]) for copy in COPIES],
        cells=[(outcome, drills_named(outcome.system, outcome.test)[0]) for outcome in outcomes],
    )


def conclusion(outcomes: Sequence[Outcome]) -> str:
    """Return the result of a run in one sentence."""
    held = sum(outcome.has_held for outcome in outcomes)
    looks = sum(len(outcome.observations) for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    return f"{held} of {counted(len(outcomes), 'drill')} held; {counted(looks, 'observation')} in {seconds:.0f} s."


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["words"] = lambda name: str(name).replace("_", " ")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
