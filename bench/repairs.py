"""The matrix of damages: every store damaged by hand, then found, named, repaired and proven, or put before people.

    python -m bench.repairs [--orders 60] [--json]

Belongs here: doing so on servers and workers of its own, and the seconds that finding and repairing take. Does not
belong here: the damages (`bench/damages.py`), the repairs (`repair/`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from bench.damages import CELLS, Cell, Place
from bench.world import running_system
from contracts.breaks import BreakState
from contracts.verdicts import Verdict
from repair import ledger
from repair.run import RepairReport, repair_breaks
from repair.tools import Repairing
from stack.console import Progress, answers, table
from stack.propagation import drain_everything
from stack.repair import repairing_tools
from traffic.generator import place_orders

SEED = 7


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one damage."""

    name: str
    store: str
    found: int
    """Breaks that the comparison opened."""
    seconds_to_find: float
    outcome: str
    """`repaired`, `escalated`, `mended itself`, or `left`."""
    actions: tuple[str, ...]
    seconds_to_repair: float
    is_expected: bool
    detail: str = ""
    """What is left, when it is not as expected."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, find, repair, print; return 0 when every damage came to what it must, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.repairs", description=__doc__)
    parser.add_argument("--orders", type=int, default=60, help="orders placed before the first damage (default 60)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    with running_system() as settings:
        place_orders(settings, orders=options.orders, seed=SEED)
        drain_everything(settings)
        with repairing_tools(settings, Progress(is_quiet=True)) as tools:
            outcomes = list(run_cells(tools, settings.pods[0].pod, CELLS))
    if options.json:
        print(json.dumps({"bench": "repairs", "cells": [asdict(outcome) for outcome in outcomes]}))
    else:
        _show(outcomes)
    return 0 if all(outcome.is_expected for outcome in outcomes) else 1


def run_cells(tools: Repairing, pod: str, cells: Sequence[Cell]) -> Iterator[Outcome]:
    """Do every damage in turn, find it, repair it; give what became of it."""
    if any(cell.needs_build for cell in cells):
        # The marts' first build is not what is measured.
        tools.recheck(("operational_finance.orders",), (pod,))
    for cell in cells:
        yield run_cell(tools, pod, cell)


def run_cell(tools: Repairing, pod: str, cell: Cell) -> Outcome:
    """Do one damage, find it and repair it; return what became of it."""
    place = Place(settings=tools.settings, pod=pod)
    cell.damage(place)
    started = time.perf_counter()
    found = _look(tools, pod, cell)
    found_at = time.perf_counter()
    if cell.undo is not None and cell.is_fixed_first:
        cell.undo(place)
    report = repair_breaks(tools, pods=(pod,))
    repaired_at = time.perf_counter()
    outcome = _outcome(tools, report)
    if cell.undo is not None and not cell.is_fixed_first:
        cell.undo(place)
        _look(tools, pod, cell)
    expected = {"repaired"} if cell.is_repaired else {"escalated"}
    is_expected = outcome in expected | ({"mended itself"} if cell.may_mend_itself else set())
    return Outcome(
        name=cell.name,
        store=cell.store,
        found=found,
        seconds_to_find=round(found_at - started, 2),
        outcome=outcome,
        actions=tuple(action.kind for action in report.actions),
        seconds_to_repair=round(repaired_at - found_at, 2),
        is_expected=is_expected,
        detail="" if is_expected else _detail(tools, report),
    )


def _look(tools: Repairing, pod: str, cell: Cell) -> int:
    results = tools.recheck(cell.pairs, (pod,))
    return ledger.record(tools.settings.control_dsn, results, run=f"damage: {cell.name}").breaks_opened


def _outcome(tools: Repairing, report: RepairReport) -> str:
    if not report.breaks:
        return "mended itself"
    states = {ledger.find_break(tools.settings.control_dsn, item.break_id).state for item in report.breaks}
    if report.is_clean and states == {BreakState.REPAIRED}:
        return "repaired"
    return "escalated" if states == {BreakState.ESCALATED} and not report.actions else "left"


def _detail(tools: Repairing, report: RepairReport) -> str:
    errors = [action.error for action in report.actions if action.error]
    reasons = [f"{found.pair}: {found.verdict} {found.reason}" for found in report.results if _is_bad(found.verdict)]
    kept = [ledger.find_break(tools.settings.control_dsn, item.break_id) for item in report.breaks[:10]]
    states = [f"{item.pair} {item.entity} {item.kind} {item.state} {item.reason}" for item in kept]
    return "; ".join([*errors, *reasons, *states])


def _is_bad(verdict: Verdict) -> bool:
    return verdict is not Verdict.CONSISTENT


def _show(outcomes: Sequence[Outcome]) -> None:
    rows = [
        (
            outcome.store,
            outcome.name,
            outcome.found,
            f"{outcome.seconds_to_find:.1f}",
            ", ".join(action.replace("_", " ") for action in outcome.actions),
            outcome.outcome if outcome.is_expected else f"{outcome.outcome}: {outcome.detail}",
            f"{outcome.seconds_to_repair:.1f}",
        )
        for outcome in outcomes
    ]
    headings = ["Store", "Damage", "Breaks", "Found in s", "Done", "Outcome", "Repaired in s"]
    answers().print(table("Damages and their repair", headings, rows))


if __name__ == "__main__":
    sys.exit(main())
