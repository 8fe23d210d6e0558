"""Finding and repairing damages with Dagster: we only launch the reconciliation job, as its schedule does.

Belongs here: this way of finding and repairing, and the check that the pages show the chain from the failed check
through the repair to the passed check. Does not belong here: the damages and their judgement (`bench/repairs.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bench.figures import Figure
from bench.pages import FAILED, Pages
from contracts.breaks import BreakState
from contracts.clock import utc_now
from contracts.errors import StackError
from contracts.runs import REPAIR_TAG
from contracts.settings import Settings
from contracts.verdicts import Verdict
from reconcile.pair import Pair
from reconcile.results import latest_results
from repair import ledger

LATE_TRIES_MAX = 10
"""The number of comparisons of a late copy: a parked event becomes a break after a minute."""
IN_PROGRESS = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")


@dataclass(kw_only=True)
class Dagster:
    """A daemon, a webserver, and the results for the checks that failed."""

    settings: Settings
    pages: Pages
    name: str = "Dagster"
    chains: list[str] = field(default_factory=list)
    """Checks that failed, were repaired, and passed, with links between these evaluations."""
    broken_chains: list[str] = field(default_factory=list)
    """Descriptions of checks with an incomplete chain."""
    _pairs: Sequence[Pair] = ()
    _began: datetime = field(default_factory=utc_now)

    def find(self, families: Sequence[str]) -> None:
        """Launch the reconciliation job for the pairs of these families only."""
        self._pairs, self._began = _pairs(families), utc_now()
        self._compare(self._pairs if families else ())

    def _compare(self, pairs: Sequence[Pair]) -> None:
        checks = [_check(pair) for pair in pairs]
        selection = [{"assetKey": {"path": list(path)}, "name": name} for path, name in checks]
        selector = {"assetSelection": [], "assetCheckSelection": selection}
        began = utc_now()
        _, status = self.pages.ended("reconciliation", selector=selector if pairs else {})
        if status in FAILED and not self._could_not_look(began):
            raise StackError(f"The reconciliation ended as {status}: {self.pages.tail()}")

    def _could_not_look(self, began: datetime) -> bool:
        """Return whether a comparison of this round was unknown, because marts with failed tests cannot be compared.

        Such a run records its findings and then fails.
        """
        results = latest_results(self.settings.control_dsn)
        return any(result.verdict is Verdict.UNKNOWN and result.checked_at >= began for result in results)

    def repair(self) -> None:
        """Wait until no break is open or being repaired; then check the pages of the repaired pairs.

        A copy may still be late then, because events that it parked after the comparison are no breaks yet. We compare
        it again until it is not late, as the schedule does.
        """
        for _ in range(LATE_TRIES_MAX):
            self.pages.until("The sensor's repairs did not come to an end", self._is_over)
            if not (late := self._late_pairs()):
                break
            self._compare(late)
        for pair in self._pairs:
            repaired = [BreakState.REPAIRED]
            found = ledger.breaks(self.settings.control_dsn, states=repaired, pair=pair.name, limit=None)
            if any(item.ended_at is not None and item.ended_at >= self._began for item in found):
                self._look_at_chain(pair)

    def _late_pairs(self) -> list[Pair]:
        late = {result.pair for result in latest_results(self.settings.control_dsn) if result.verdict is Verdict.LATE}
        return [pair for pair in self._pairs if pair.name in late]

    def figures(self) -> list[Figure]:
        """Return the number of repaired pairs whose pages show the whole chain; print the other pairs to stderr."""
        for broken in self.broken_chains:
            print(f"chain: {broken}", file=sys.stderr)
        whole, broken_count = len(self.chains), len(self.broken_chains)
        name = "pages with links from the failed check over its repair to green"
        return [
            Figure(name=name, value=whole, unit="", goal=f"= {whole + broken_count}",
                   is_met=whole > 0 and not broken_count)
        ]  # fmt: skip

    def _is_over(self) -> bool:
        states = [BreakState.OPEN, BreakState.REPAIRING]
        if ledger.breaks(self.settings.control_dsn, states=states, limit=1):
            return False
        runs = [run for pod in self.settings.pods for run in self.pages.runs(**{REPAIR_TAG: pod.pod})]
        if failed := [run["runId"] for run in runs if run["status"] in FAILED]:
            raise StackError(f"A repair run failed: {failed[0]}: {self.pages.tail()}")
        return not any(run["status"] in IN_PROGRESS for run in runs)

    def _look_at_chain(self, pair: Pair) -> None:
        """Check for a failed evaluation, a repair's evaluation that links its run, and a passed newest evaluation."""
        path, name = _check(pair)
        seen = self.pages.evaluations(path, name)
        failed_runs = {one.run_id for one in seen if not one.success}
        linked = [one for one in seen if {"repaired_by", "found_by"} <= one.links]
        if not any(
            one.metadata["repaired_by"] == one.run_id and one.metadata["found_by"] in failed_runs for one in linked
        ):
            self.broken_chains.append(f"{pair.name}: no repair links what it repaired: {seen}")
        elif seen[0].success or self._is_before_people(pair):
            self.chains.append(pair.name)
        else:
            self.broken_chains.append(f"{pair.name} still fails: {seen[0]}")

    def _is_before_people(self, pair: Pair) -> bool:
        return bool(ledger.breaks(self.settings.control_dsn, states=[BreakState.ESCALATED], pair=pair.name, limit=1))


def _check(pair: Pair) -> tuple[tuple[str, ...], str]:
    """Return the asset path and the name of the check for a pair."""
    from checks.pairs import check_name, checked_key

    return tuple(checked_key(pair).path), check_name(pair)


def _pairs(families: Sequence[str]) -> Sequence[Pair]:
    from reconcile.pairs import pairs_named

    return pairs_named(families or None)
