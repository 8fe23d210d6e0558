"""The result of a benchmark and its output: one line per figure, or one JSON object."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value, with its name, unit and goal."""

    name: str
    value: float
    unit: str
    goal: str = ""
    is_met: bool | None = None


Sizes = Mapping[str, tuple[float, str]]
"""Option -> its default and its help."""


def options_of(
    bench: str, description: str | None, arguments: Sequence[str] | None, sizes: Sizes
) -> argparse.Namespace:
    """Return the options of a measurement: its sizes, and `json`."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{bench}", description=description)
    for name, (default, said) in sizes.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{said} (default {default:,})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(arguments)


def measured(measure: Callable[..., Sequence[Figure]], **said: str) -> int:
    """Measure with the sizes of the command line, and print; return 0 when every goal is met, 1 otherwise.

    `said`: the help of each size; the sizes and their defaults are the parameters of `measure`, the name of the
    benchmark is its module's.
    """
    bench, parameters = Path(inspect.getfile(measure)).stem, inspect.signature(measure).parameters
    sizes = {name: (parameters[name].default, text) for name, text in said.items()}
    options = vars(options_of(bench, sys.modules[measure.__module__].__doc__, None, sizes))
    is_json = options.pop("json")
    return report(bench, measure(**options), is_json=is_json)


def report(bench: str, figures: Sequence[Figure], *, is_json: bool) -> int:
    """Print the figures; return 0 when every goal is met, 1 otherwise."""
    if is_json:
        print(json.dumps({"bench": bench, "figures": [asdict(figure) for figure in figures]}))
    else:
        for figure in figures:
            verdict = {None: "", True: "met", False: "MISSED"}[figure.is_met]
            print(f"{figure.name:<62}{figure.value:>14,.2f} {figure.unit:<12}{figure.goal:<14}{verdict}".rstrip())
    return 0 if all(figure.is_met is not False for figure in figures) else 1
