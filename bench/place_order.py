"""What placing an order of three lines costs, PostgreSQL and client, against the commit before the HTTP interface.

    python -m bench.place_order [--orders N] [--rounds N] [--json]

Belongs here: both trees in turns within one run, each with a server of its own (`bench/placing.py`), and the ratio.
Does not belong here: orders per second (`bench/commands.py`). Needs the repository: the reference is read from it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.figures import Figure, measured
from stack.settings import ROOT

REFERENCE = "e2c43e1041dcc18f9d2d33d27eda4ebb94d71af7"
"""The last commit before the HTTP interface: its commands, its tables, its guards."""
GOAL = 0.6
LINES, SKUS, WARM = 3, 300, 150


@dataclass(frozen=True, kw_only=True)
class Round:
    """The processor time of an order in one round, in microseconds."""

    client: float
    server: float


def measure(*, orders: int = 300, rounds: int = 5) -> list[Figure]:
    """Return the medians of both trees, and the median of the ratios of adjacent rounds."""
    with ExitStack() as stack:
        old = stack.enter_context(_placing(stack.enter_context(_checked_out())))
        new = stack.enter_context(_placing(ROOT))
        for process in (old, new):
            _place(process, WARM)
        pairs = [(_place(old, orders), _place(new, orders)) for _ in range(rounds)]
    figures = []
    for name, index in (("reference", 0), ("place an order of 3 lines", 1)):
        for part in ("client", "server"):
            value = median(getattr(pair[index], part) for pair in pairs)
            figures.append(Figure(name=f"{name}: {part}", value=value, unit="us"))
    ratio = median((now.client + now.server) / (before.client + before.server) for before, now in pairs)
    return [*figures, Figure(name="ratio", value=ratio, unit="", goal=f"<= {GOAL}", is_met=ratio <= GOAL)]


@contextmanager
def _checked_out() -> Iterator[Path]:
    """Yield a folder with the files of the reference; SystemExit where the repository does not have it."""
    with tempfile.TemporaryDirectory(prefix="tieout-bench-") as folder:
        archive = subprocess.run(["git", "archive", REFERENCE], cwd=ROOT, capture_output=True, check=False)
        if archive.returncode:
            raise SystemExit(f"The reference cannot be read: {archive.stderr.decode().strip()}")
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


@contextmanager
def _placing(tree: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that places orders with the code of this tree."""
    process = subprocess.Popen(
        [sys.executable, "-P", str(ROOT / "bench" / "placing.py"), str(LINES), str(SKUS)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        _answer(process)
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _place(process: subprocess.Popen[str], number: int) -> Round:
    assert process.stdin is not None
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    client, server = _answer(process)
    return Round(client=client / number * 1e6, server=server / number * 1e6)


def _answer(process: subprocess.Popen[str]) -> Sequence[float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("A process that places orders has ended.")
    answer: Sequence[float] = json.loads(line)
    return answer


if __name__ == "__main__":
    sys.exit(measured(measure, orders="orders of each measurement", rounds="measurements of each tree, in turns"))
