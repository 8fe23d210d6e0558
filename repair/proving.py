"""The proof of a repair: pairs are compared again at new cuts, and the ledger records what was found.

Belongs here: what is compared again, and when once more. Does not belong here: which keys are looked at
(`repair/rechecking.py`), the order of a run (`repair/repair_run.py`), what a result does to breaks (`repair/ledger/`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.breaks import Break, BreakState
from contracts.errors import WarehouseError
from contracts.events import STATE_TYPES
from contracts.verdicts import PairResult, Verdict
from reconcile.pairs import PAIRS
from reconcile.results import latest_results
from repair import ledger
from repair.actions import Done
from repair.ledger import Recorded
from repair.rechecking import keys_to_compare
from repair.tools import BuildTo, Repairing
from repair.values import Action, Plan

LOOKS_MAX = 3
"""How often a repair compares again while other comparisons overtake it; what is left then is left to the next run."""
STORED = {table: pair.name for pair in PAIRS for table in pair.stored_tables}
"""Stored table of the warehouse -> the pair that compares it, as of the newest complete build; it needs no build."""
HISTORIES = {f"intermediate.int_{kind}s_history": kind for kind in STATE_TYPES}
"""Stored table -> the type of the aggregates whose versions it holds; the others are made of several types."""

NOT_BUILT = "The build that was to repair it failed, or what it depends on did (`tieout breaks show` has the audit)."


@dataclass(kw_only=True)
class BuildToCuts:
    """Builds for a comparison by executing an action: so it is done once, and the comparison needs no other build."""

    action: Action
    act: Callable[[Action], Done | None]
    is_begun: bool = False

    def __call__(self, _cuts: Mapping[str, int]) -> Mapping[str, int]:
        """Build as far as the lake is; the comparison asks only when the lake has its cuts."""
        self.is_begun = True
        done = self.act(self.action)
        if done is None:
            raise WarehouseError(NOT_BUILT)
        return dict(done.after["stands_at"])


@dataclass(kw_only=True)
class Prover:
    """Compares again for one run, and keeps what that changed in the ledger."""

    tools: Repairing
    run: str
    results: list[PairResult] = field(default_factory=list)
    """The newest result of each pair and pod that the run has compared again."""
    recorded: Recorded = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing recorded."""
        self.recorded = Recorded(run=self.run)

    def prove(
        self,
        made: Plan,
        claimed: Sequence[Break],
        executed: Sequence[Action],
        *,
        of_pairs: Collection[str] | None = None,
        build: BuildTo | None = None,
    ) -> None:
        """Compare the pairs of all breaks with actions, or found in order, in their pods, and record the results.

        `executed` are the actions since the last comparison, `of_pairs` the pairs that are compared (None: all),
        `build` what brings the warehouse to the cuts of the first comparison.
        """
        for look in range(LOOKS_MAX):
            found = self._compare(made, claimed, executed, of_pairs, build if look == 0 else None)
            if not found:
                return
            self._record(found)
            # Another comparison has seen a break while this one was reading, and nobody knows which of them read first.
            # So the break stays, though its key is in order; a comparison that begins now can tell.
            if not ledger.unproven(self.tools.settings.control_dsn, self.run, found):
                return

    def compare_stored(self, keys: Mapping[str, Collection[str]]) -> list[Break]:
        """Compare what the warehouse stores of aggregates (pod -> their keys); return their open breaks of these pairs.

        Nothing is built for it. So it says which of the aggregates a build has read while their events were wrong.
        """
        every = frozenset[str]().union(*map(frozenset, keys.values()))
        ids = {pod: frozenset(key.split("/", 2)[2] for key in of_pod) for pod, of_pod in keys.items()}
        pairs = stored_pairs_of({key.split("/", 2)[1] for key in every})
        self._record(self.tools.recheck(pairs, list(ids), ids))
        dsn, states = self.tools.settings.control_dsn, [BreakState.OPEN]
        found = ledger.breaks(dsn, states=states, aggregate_keys=sorted(every), limit=None)
        return [item for item in found if item.pair in pairs and item.pod in keys]

    def _compare(
        self,
        made: Plan,
        claimed: Sequence[Break],
        executed: Sequence[Action],
        of_pairs: Collection[str] | None,
        build: BuildTo | None,
    ) -> Sequence[PairResult]:
        """Return the results of comparing the pairs again.

        We also compare the pods whose last result of these pairs is unknown, perhaps because of the damage that was
        repaired. A check over all pods is unknown while one of them is.
        """
        touched = {cause for action in made.actions for cause in action.causes} | set(made.in_order)
        compared = [
            item for item in claimed if item.break_id in touched and (of_pairs is None or item.pair in of_pairs)
        ]
        if not compared:
            return []
        dsn = self.tools.settings.control_dsn
        pairs = tuple(dict.fromkeys(item.pair for item in compared))
        newest = latest_results(dsn)
        unknown = [item for item in newest if item.verdict is Verdict.UNKNOWN and item.pair in pairs]
        pods = tuple(dict.fromkeys([item.pod for item in compared] + [item.pod for item in unknown]))
        keys = keys_to_compare(
            pairs, pods, claimed=claimed, actions=executed, incidents=ledger.groups(dsn), newest=newest
        )
        results = self.tools.recheck(pairs, pods, keys, build)
        self.tools.on_step("rechecked")
        return results

    def _record(self, found: Sequence[PairResult]) -> None:
        dsn, clock = self.tools.settings.control_dsn, self.tools.clock
        self.recorded += ledger.record(dsn, found, run=self.run, clock=clock)
        again = {(one.pair, one.pod) for one in found}
        self.results = [*(one for one in self.results if (one.pair, one.pod) not in again), *found]


def stored_pairs_of(kinds: Collection[str]) -> list[str]:
    """Return the pairs of the stored tables that have rows made of events of these aggregate types."""
    return [pair for table, pair in STORED.items() if table not in HISTORIES or HISTORIES[table] in kinds]
