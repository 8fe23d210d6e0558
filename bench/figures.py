"""The result of a benchmark and its output: one line per figure, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value, with its name, unit and goal."""

    name: str
    value: float
    unit: str
    goal: str = ""
    is_met: bool | None = None


def report(bench: str, figures: Sequence[Figure], *, is_json: bool) -> int:
    """Print the figures; return 0 when every goal is met, 1 otherwise."""
    if is_json:
        print(json.dumps({"bench": bench, "figures": [asdict(figure) for figure in figures]}))
    else:
        for figure in figures:
            verdict = {None: "", True: "met", False: "MISSED"}[figure.is_met]
            print(f"{figure.name:<62}{figure.value:>14,.2f} {figure.unit:<12}{figure.goal:<14}{verdict}".rstrip())
    return 0 if all(figure.is_met is not False for figure in figures) else 1
