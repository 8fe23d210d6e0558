"""Runs the matrix of damages: every damage is made, found, classified, repaired and verified, while traffic goes on.

    python -m bench.repairs [--dagster] [--orders 150] [--rate 2] [--only WORD] [--json]

Without `--dagster` every round runs `tieout reconcile` and then `tieout repair`, as a person does. With `--dagster`,
Dagster's daemon runs as in `tieout up`; we only launch the reconciliation job, as its schedule does. Belongs here: a
round from the damage to the judgement of its outcome. Does not belong here: the damages and their judgement
(`drills/damages/`), Dagster's processes (`bench/pages.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Protocol

import psycopg

from bench.figures import Figure, report
from bench.world import running_system, trade
from cli.console import answers, table
from contracts.breaks import UNSETTLED, BreakState
from contracts.clock import utc_now
from contracts.errors import StackError
from contracts.settings import Settings, as_values
from contracts.verdicts import Verdict
from drills.damages.outcomes import Done, Outcome, outcome_of, unsettled
from drills.damages.place import Round
from drills.damages.rounds import ROUNDS
from reconcile.results import latest_results
from repair import ledger
from repair.repair_run import repair_breaks
from repair.tools import Repairing
from stack.composition.damaging import place_of
from stack.settings import ROOT

SEED = 7
TRIES_MAX = 3
SETTLE_ROUNDS_MAX = 6
SETTLE_PAUSE_SECONDS = 20.0


class Way(Protocol):
    """The interface of a way to find and repair damages."""

    name: str

    def find(self, families: Sequence[str]) -> None:
        """Compare, and record the differences in the ledger."""

    def repair(self) -> None:
        """Repair the open breaks, or wait for their repair; return when no repair is running."""

    def figures(self) -> list[Figure]:
        """Return the figures of this way only."""


class InProcess:
    """The functions of the command and the job, called in this process, for tests."""

    name = "in process"

    def __init__(self, tools: Repairing) -> None:
        self._tools = tools

    def find(self, families: Sequence[str]) -> None:
        """Compare and record."""
        pods = [pod.pod for pod in self._tools.settings.pods]
        results = self._tools.recheck(families, pods)
        ledger.record(self._tools.settings.control_dsn, results, run=f"comparison {utc_now():%H:%M:%S.%f}")

    def repair(self) -> None:
        """Repair the open breaks, up to the allowed number of attempts."""
        _while_open(self._tools.settings, lambda: repair_breaks(self._tools))

    def figures(self) -> list[Figure]:
        """Return none."""
        return []


class CommandLine:
    """The commands `tieout reconcile` and `tieout repair`."""

    name = "command line"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._environment = {**os.environ, **as_values(settings), "PYTHONPATH": str(ROOT)}
        self._log = settings.var_dir / "logs" / "commands.log"

    def find(self, families: Sequence[str]) -> None:
        """Run `tieout reconcile`; differences are expected here and are no failure."""
        self._run("reconcile", *(part for family in families for part in ("--pair", family)))

    def repair(self) -> None:
        """Run `tieout repair`; repeat when it reports that breaks are left, because a copy may have been late."""
        _while_open(self._settings, lambda: self._run("repair"))

    def figures(self) -> list[Figure]:
        """Return none."""
        return []

    def _run(self, *arguments: str) -> None:
        command = [sys.executable, "-P", "-m", "cli", *arguments, "--json"]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=self._environment, cwd=ROOT, timeout=1_800
        )
        with self._log.open("a") as log:
            log.write(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr}\n")
        if not done.stdout.lstrip().startswith("{"):
            raise StackError(f"`tieout {arguments[0]}` could not do its work: {done.stderr.strip()[-500:]}")


def _while_open(settings: Settings, repair: Callable[[], object]) -> None:
    for _ in range(TRIES_MAX):
        repair()
        if not ledger.breaks(settings.control_dsn, states=[BreakState.OPEN], limit=1):
            return


def run_round(way: Way, settings: Settings, one: Round) -> list[Outcome]:
    """Make every damage of a round, find and repair them, and return their outcomes."""
    dones = list(_damage(settings, one))
    way.find(one.families)
    for done in dones:
        if done.cell.undo is not None and done.cell.is_fixed_first:
            done.cell.undo(place_of(settings, done.pod), done.harm)
    way.repair()
    own = {key for done in dones for key in done.harm.aggregates}
    outcomes = [outcome_of(settings.control_dsn, done, own) for done in dones]
    _let_people_correct(way, settings, one, dones)
    return outcomes


def _damage(settings: Settings, one: Round) -> Iterator[Done]:
    places = {pod.pod: place_of(settings, pod.pod) for pod in settings.pods}
    for cell in one.cells:
        place = places[settings.pods[cell.pod].pod]
        harm = cell.do(place)
        yield Done(cell=cell, harm=harm, pod=place.pod, at=utc_now())


def _let_people_correct(way: Way, settings: Settings, one: Round, dones: Sequence[Done]) -> None:
    """Make the corrections of people for escalated breaks; the next comparison detects the correction.

    It covers all breaks of the damage, also those that a scheduled comparison found in between.
    """
    corrected = [done for done in dones if done.cell.is_for_people]
    for done in corrected:
        if done.cell.undo is not None:
            done.cell.undo(place_of(settings, done.pod), done.harm)
    if corrected:
        found = ledger.breaks(settings.control_dsn, states=UNSETTLED, limit=None)
        way.find(tuple(dict.fromkeys([*one.families, *(item.pair for item in found)])))


def matrix(way: Way, settings: Settings, rounds: Sequence[Round], say: Callable[[str], None]) -> list[Outcome]:
    """Run the rounds one after the other, and return all outcomes."""
    outcomes = []
    for one in rounds:
        say(f"{one.name}: {len(one.cells)} damages")
        outcomes += run_round(way, settings, one)
    return outcomes


def chosen_rounds(word: str | None) -> list[Round]:
    """Return the rounds with only those cells whose store, damage or round contains the word."""
    if word is None:
        return list(ROUNDS)
    chosen = []
    for one in ROUNDS:
        cells = tuple(cell for cell in one.cells if word in f"{one.name} {cell.store}: {cell.damage}")
        if cells:
            chosen.append(replace(one, cells=cells))
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, find, repair, print; return 0 when every outcome is as required and everything ties, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.repairs", description=__doc__)
    parser.add_argument("--dagster", action="store_true", help="leave it to Dagster; without it, the command line")
    parser.add_argument("--orders", type=int, default=250, help="orders placed before the first damage (default 250)")
    parser.add_argument("--rate", type=float, default=2.0, help="orders per second meanwhile (default 2; 0: none)")
    parser.add_argument("--only", help="only rounds and damages whose name has this word")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    rounds = chosen_rounds(options.only)
    if not rounds:
        parser.error(f"no damage is called {options.only!r}")
    with running_system() as settings:
        trade(settings, orders=options.orders, seed=SEED)
        with _traffic(settings, options.rate), _way(settings, is_dagster=options.dagster) as way:
            _say("comparing everything before the first damage")
            way.find(())
            if before := unsettled(settings.control_dsn):
                raise StackError(f"Something differs before anything was damaged: {before[0]}")
            outcomes = matrix(way, settings, rounds, _say)
            left = _settle(way, settings)
            orders = _orders(settings)
    return _report(way, outcomes, left, orders - options.orders, is_json=options.json)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _traffic(settings: Settings, orders_per_second: float) -> Iterator[None]:
    """Run traffic during the block: orders are placed, paid, shipped and refunded."""
    if orders_per_second <= 0:
        yield
        return
    command = [sys.executable, "-P", "-m", "stack.upkeep.worker", "traffic", "--rate", str(orders_per_second)]
    environment = {**os.environ, **as_values(settings), "PYTHONPATH": str(ROOT)}
    path, stop = settings.var_dir / "logs" / "traffic.log", threading.Event()

    def trade_on() -> None:
        # A command may fail on damaged data and end the traffic. Start it again, as `tieout up` does.
        while not stop.is_set():
            with path.open("ab") as log:
                worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
                while worker.poll() is None and not stop.wait(1):
                    pass
            if worker.returncode is not None:
                _say(f"the traffic ended, and is started again: {path.read_text().strip()[-1500:]}")
            worker.terminate()
            worker.wait()

    thread = threading.Thread(target=trade_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _way(settings: Settings, *, is_dagster: bool) -> Iterator[Way]:
    if not is_dagster:
        yield CommandLine(settings)
        return
    from bench.repairs_dagster import running_dagster

    with running_dagster(settings) as way:
        yield way


def _settle(way: Way, settings: Settings) -> list[str]:
    """Compare everything and repair the remaining breaks until everything ties; return a description of what does not.

    Events that were parked because of a fixed fault are late at first. They become breaks and are replayed when they
    are late for too long.
    """
    for attempt in range(SETTLE_ROUNDS_MAX):
        if attempt:
            threading.Event().wait(SETTLE_PAUSE_SECONDS)
        way.find(())
        left = unsettled(settings.control_dsn)
        if left:
            way.repair()
            continue
        left = [
            f"{result.pair} of {result.pod} is {result.verdict}: {result.reason}"
            for result in latest_results(settings.control_dsn)
            if result.verdict is not Verdict.CONSISTENT
        ]
        if not left:
            return []
    return unsettled(settings.control_dsn) or left


def _orders(settings: Settings) -> int:
    total = 0
    for pod in settings.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            total += connection.execute("select count(*) from oltp.orders").fetchall()[0][0]
    return total


def _report(way: Way, outcomes: Sequence[Outcome], left: Sequence[str], orders: int, *, is_json: bool) -> int:
    for item in left:
        print(f"left: {item}", file=sys.stderr)
    expected = sum(outcome.is_expected for outcome in outcomes)
    found = [outcome.found_seconds for outcome in outcomes if outcome.found_seconds is not None]
    repaired = [outcome.repaired_seconds for outcome in outcomes if outcome.repaired_seconds is not None]
    figures = [
        Figure(name="damages that came to what they must", value=expected, unit="", goal=f"= {len(outcomes)}",
               is_met=expected == len(outcomes) > 0),
        Figure(name="breaks left when everything was compared at the end", value=len(left), unit="", goal="= 0",
               is_met=not left),
        Figure(name="damages that took several repairs", value=sum(one.tries > 1 for one in outcomes), unit=""),
        Figure(name="orders placed meanwhile", value=orders, unit=""),
        Figure(name="found, median", value=statistics.median(found or [0]), unit="s"),
        Figure(name="found, longest", value=max(found, default=0), unit="s"),
        Figure(name="found to proven, median", value=statistics.median(repaired or [0]), unit="s"),
        Figure(name="found to proven, longest", value=max(repaired, default=0), unit="s"),
        *way.figures(),
    ]  # fmt: skip
    if is_json:
        cells = [asdict(outcome) for outcome in outcomes]
        document = {
            "bench": "repairs",
            "way": way.name,
            "cells": cells,
            "figures": [asdict(figure) for figure in figures],
        }
        print(json.dumps(document))
        return 0 if all(figure.is_met is not False for figure in figures) else 1
    show(outcomes, f"Damages and their repair, by {way.name}")
    return report("repairs", figures, is_json=False)


def show(outcomes: Sequence[Outcome], title: str) -> None:
    """Print the matrix."""
    rows = [
        (
            outcome.store,
            outcome.damage,
            outcome.breaks,
            "; ".join(outcome.named),
            _seconds(outcome.found_seconds),
            outcome.outcome
            + (f", {outcome.tries} tries" if outcome.tries > 1 else "")
            + "".join(f"\n! {fault}" for fault in outcome.faults),
            ", ".join(action.replace("_", " ") for action in outcome.actions),
            len(outcome.audit_rows),
            _seconds(outcome.repaired_seconds),
            ", ".join(outcome.proven_at),
        )
        for outcome in outcomes
    ]
    headings = ["Store", "Damage", "Breaks", "Named", "Found s", "Outcome", "Done", "Audited", "Repaired s", "Proven"]
    answers().print(table(title, headings, rows))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as error:
        sys.exit(f"repairs: {error}")
