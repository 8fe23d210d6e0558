"""Ways to find and repair the damages of a round, for tests: in this process, by the commands, or by Dagster's jobs.

Belongs here: a round from the damage to the judgement of its outcome, where something else launches comparison and
repair. Does not belong here: the damages and their judgement (`drills/damages/`), a system that finds and repairs by
itself (`bench/repairs.py`), Dagster's jobs (`bench/repairs_dagster.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bench.figures import Figure
from contracts.breaks import UNSETTLED, BreakState
from contracts.clock import utc_now
from contracts.errors import StackError
from contracts.settings import Settings, as_values
from drills.damages.outcomes import Done, Outcome, outcome_of
from drills.damages.place import Round
from repair import ledger
from repair.repair_run import repair_breaks
from repair.tools import Repairing
from stack.composition.damaging import place_of
from stack.settings import ROOT

TRIES_MAX = 3


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
    dones = list(damage_of(settings, one))
    way.find(one.families)
    for done in dones:
        if done.cell.undo is not None and done.cell.is_fixed_first:
            done.cell.undo(place_of(settings, done.pod), done.harm)
    way.repair()
    own = {key for done in dones for key in done.harm.aggregates}
    outcomes = [outcome_of(settings.control_dsn, done, own) for done in dones]
    _let_people_correct(way, settings, one, dones)
    return outcomes


def damage_of(settings: Settings, one: Round) -> Iterator[Done]:
    """Make every damage of a round; yield each."""
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
