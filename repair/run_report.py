"""The report of a run of repairs: what it did, and which breaks are left.

Belongs here: that value. Does not belong here: the run (`repair/repair_run.py`), its forms (`repair/report_json.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.breaks import Break
from contracts.verdicts import PairResult
from repair.audit import AuditedAction
from repair.ledger import Recorded, Settled
from repair.values import Plan


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """The result of a run: what it did, and which breaks are left."""

    run: str
    is_dry_run: bool
    breaks: tuple[Break, ...]
    """The claimed breaks; for a dry run those that a run would claim."""
    plan: Plan
    actions: tuple[AuditedAction, ...] = ()
    """The actions in the audit, in the order of execution."""
    results: tuple[PairResult, ...] = ()
    """The results of the comparison after the actions."""
    recorded: Recorded | None = None
    settled: Settled | None = None
    refused: tuple[int, ...] = ()
    """Breaks that an action could not repair; they are escalated."""
    beyond_budget: tuple[int, ...] = ()
    """Breaks beyond the budget; they are escalated."""
    busy_pods: tuple[str, ...] = ()
    """Pods that another run is repairing; nothing was done in them."""

    @property
    def is_nothing_changed(self) -> bool:
        """Whether breaks were claimed, but every action found that everything was already right."""
        return bool(self.breaks) and all(action.outcome == "nothing_to_do" for action in self.actions)

    @property
    def left(self) -> int:
        """Number of claimed breaks that no comparison has ended."""
        return len(self.breaks) - (self.settled.ended if self.settled else 0)

    @property
    def is_clean(self) -> bool:
        """Whether no break is left: none unended, none beyond the budget, and no pod busy."""
        return not (self.left or self.beyond_budget or self.busy_pods)
