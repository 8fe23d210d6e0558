"""Damage left to Dagster: the reconciliation job is launched, as its schedule does; nothing else is touched.

Belongs here: that way of finding and repairing, and whether the pages show the chain from the failed check over the
repair to the check that passed. Does not belong here: the damages and their verdict (`bench/repairs.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from bench.pages import FAILED, Evaluation, Pages, running_pages
from contracts.breaks import BreakState
from contracts.clock import utc_now
from contracts.errors import StackError
from contracts.runs import FOUND_BY_TAG, REPAIR_TAG
from contracts.settings import Settings
from contracts.verdicts import Verdict
from reconcile.pair import Pair
from reconcile.results import latest_results
from repair import ledger
from stack.console import Progress

IN_PROGRESS = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")


@dataclass(kw_only=True)
class Dagster:
    """A daemon, a webserver, and what became of the checks that failed."""

    settings: Settings
    pages: Pages
    name: str = "Dagster"
    chains: list[str] = field(default_factory=list)
    """Checks that failed, were repaired, and passed, with links from one to the next."""
    broken_chains: list[str] = field(default_factory=list)
    _found_by: str = ""
    _failed: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    def find(self, families: Sequence[str]) -> None:
        """Launch the reconciliation job, of these pairs only; note which checks fail."""
        from checks.pairs import check_name, checked_key

        pairs = _pairs(families)
        checks = [(tuple(checked_key(pair).path), check_name(pair)) for pair in pairs]
        selection = [{"assetKey": {"path": list(path)}, "name": name} for path, name in checks]
        selector = {"assetSelection": [], "assetCheckSelection": selection}
        began = utc_now()
        self._found_by, status = self.pages.ended("reconciliation", selector=selector if families else {})
        if status in FAILED and not self._could_not_look(began):
            raise StackError(f"The reconciliation ended as {status}: {self.pages.tail()}")
        self._failed = [check for check in checks if not self._newest(*check).success]

    def _could_not_look(self, began: datetime) -> bool:
        """Return whether a comparison since then could not look: marts whose own tests fail prove nothing.

        Such a run fails, after it has recorded what it found.
        """
        results = latest_results(self.settings.control_dsn)
        return any(result.verdict is Verdict.UNKNOWN and result.checked_at >= began for result in results)

    def repair(self) -> None:
        """Wait until no break is open and nobody works on one; then look at the chain on every failed check's page."""
        self.pages.until("The sensor's repairs did not come to an end", self._is_over)
        for path, name in self._failed:
            self._look_at_chain(path, name)

    def _is_over(self) -> bool:
        states = [BreakState.OPEN, BreakState.REPAIRING]
        if ledger.breaks(self.settings.control_dsn, states=states, limit=1):
            return False
        runs = [run for pod in self.settings.pods for run in self.pages.runs(**{REPAIR_TAG: pod.pod})]
        if failed := [run["runId"] for run in runs if run["status"] in FAILED]:
            raise StackError(f"A repair run failed: {failed[0]}: {self.pages.tail()}")
        return not any(run["status"] in IN_PROGRESS for run in runs)

    def _newest(self, path: tuple[str, ...], name: str) -> Evaluation:
        return self.pages.evaluations(path, name)[0]

    def _look_at_chain(self, path: tuple[str, ...], name: str) -> None:
        """The newest evaluation passes, links the repair run, which was started for what the failed run found."""
        newest, what = self._newest(path, name), f"{'/'.join(path)}: {name}"
        repair_run = newest.metadata.get("repaired_by")
        if not {"repaired_by", "found_by"} <= newest.links or repair_run != newest.run_id:
            self.broken_chains.append(f"{what} links no repair: {newest}")
            return
        runs = {run["runId"]: run for pod in self.settings.pods for run in self.pages.runs(**{REPAIR_TAG: pod.pod})}
        if runs[newest.run_id]["tags"].get(FOUND_BY_TAG) != self._found_by:
            self.broken_chains.append(f"{what}: the repair {newest.run_id} was not started for {self._found_by}")
        elif newest.success or self._is_before_people(name):
            self.chains.append(what)
        else:
            self.broken_chains.append(f"{what} still fails after {newest.run_id}")

    def _is_before_people(self, name: str) -> bool:
        found = ledger.breaks(self.settings.control_dsn, states=[BreakState.ESCALATED], limit=None)
        return any(item.pair.replace(".", "__") == name for item in found)


def _pairs(families: Sequence[str]) -> Sequence[Pair]:
    from reconcile.pairs import pairs_named

    return pairs_named(families or None)


@contextmanager
def running_dagster(settings: Settings) -> Iterator[Dagster]:
    """Run Dagster beside the workers until the block ends."""
    with running_pages(settings, settings.var_dir / "logs") as pages:
        with Progress().step("Starting Dagster"):
            pages.until("The code locations did not load", pages.is_up)
        yield Dagster(settings=settings, pages=pages)
