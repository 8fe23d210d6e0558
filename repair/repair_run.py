"""One run of repairs: claim breaks, gather evidence, plan, act, compare again at a new cut, record, settle.

A run may be killed at any step. PostgreSQL then releases its locks, so the next run over the same pods knows at once
that it was killed. The next run settles the claimed breaks and gathers new evidence, so it does only what is still
needed. Belongs here: the order of steps, and what happens when one fails. Does not belong here: what is done about
which break (`repair/plan.py`), how (`repair/actions.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from contracts.breaks import Break, BreakState
from contracts.errors import ComparisonError, TieoutError
from contracts.ids import uuid7
from contracts.ownership import WAREHOUSE, family_of, mended_with
from contracts.verdicts import PairResult, Verdict
from reconcile.results import latest_results
from repair import actions, audit, ledger
from repair.audit import AuditedAction
from repair.evidence.aggregates import FAULTS
from repair.evidence.gathering import gather
from repair.ledger import Recorded, Settled
from repair.plan import plan
from repair.rechecking import keys_to_compare
from repair.remedies import UNEXPLAINED_BEGINS
from repair.tools import Repairing
from repair.values import Action, ActionKind, Budget, Evidence, Plan

BY = "repair"
HOUR = timedelta(hours=1)

NOT_LOOKED = "Whether OLTP of {pod} has faults of its own is {verdict}, so nothing of it is stated again: {reason}"
INTERRUPTED = "The run ended before it was through; the next one goes on."
FAILED = "The repair {run} could not begin: {reason}"
BUDGET = (
    "budget reached: a run takes on {breaks} breaks, and {actions} actions are done within an hour. If so much is to "
    "be repaired, open the breaks again (`tieout breaks reopen`) and allow more (`tieout repair --budget-breaks`)."
)


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


def repair_breaks(
    tools: Repairing,
    *,
    budget: Budget | None = None,
    dry_run: bool = False,
    run: str | None = None,
    pods: Collection[str] | None = None,
    pairs: Collection[str] | None = None,
    break_ids: Collection[int] | None = None,
) -> RepairReport:
    """Repair open breaks (all, or those of these pods, pairs or families, ids), compare again, and return a report.

    A dry run changes nothing at all. When a store cannot be read for evidence, its error is raised and the breaks are
    released unchanged. A failed action is in the report and the audit; the next run retries its breaks.
    """
    scope = _Scope(
        pods=tuple(pod.pod for pod in tools.settings.pods if pods is None or pod.pod in pods),
        pairs=None if pairs is None else tuple(pairs),
        break_ids=None if break_ids is None else tuple(break_ids),
    )
    name = run or f"repair {tools.clock():%Y-%m-%dT%H:%M:%SZ} {str(uuid7())[-6:]}"
    asked = budget or Budget()
    allowed = _allowed(tools, asked)
    if dry_run:
        found = scope.open_breaks(tools)
        return RepairReport(
            run=name,
            is_dry_run=True,
            breaks=tuple(found[: allowed.breaks_max]),
            plan=plan(found, gather(tools.settings, found, tools.projection), allowed),
        )
    with audit.holding_pods(tools.settings.control_dsn, scope.pods) as held, audit.living(name):
        busy = tuple(pod for pod in scope.pods if pod not in held.pods)
        if not held.pods:
            return RepairReport(run=name, is_dry_run=False, breaks=(), plan=Plan(), busy_pods=busy)
        _take_over(tools, held.pods)
        report = _Run(tools, name, replace(scope, pods=held.pods), allowed, asked, held.check).report()
        return replace(report, busy_pods=busy)


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """The filter for the breaks of a run; None: all."""

    pods: tuple[str, ...]
    pairs: tuple[str, ...] | None
    break_ids: tuple[int, ...] | None

    def open_breaks(self, tools: Repairing) -> list[Break]:
        """Return the open breaks of the scope, in the order in which they are claimed."""
        found = ledger.breaks(tools.settings.control_dsn, states=[BreakState.OPEN], limit=None)
        return sorted((item for item in found if self._has(item)), key=lambda item: (item.repairs, item.break_id))

    def _has(self, item: Break) -> bool:
        return (
            item.pod in self.pods
            and (self.pairs is None or item.pair in self.pairs or family_of(item.pair) in self.pairs)
            and (self.break_ids is None or item.break_id in self.break_ids)
        )


def _allowed(tools: Repairing, budget: Budget) -> Budget:
    """Return the budget less the actions of all runs within the last hour."""
    done = audit.actions_since(tools.settings.control_dsn, tools.clock() - HOUR)
    return replace(budget, actions_max=max(0, budget.actions_max - done))


def _take_over(tools: Repairing, held: Sequence[str]) -> None:
    """Settle the breaks that killed runs had claimed. We hold their pods' locks, so these runs are dead."""
    dsn = tools.settings.control_dsn
    for run in audit.interrupted_runs(dsn, held):
        ledger.settle(dsn, run, attempts_max=tools.attempts_max, clock=tools.clock)
        audit.end_run(dsn, run, "interrupted", tools.clock(), INTERRUPTED)


class _Run:
    def __init__(
        self,
        tools: Repairing,
        name: str,
        scope: _Scope,
        budget: Budget,
        asked: Budget,
        check_lock: Callable[[], None],
    ) -> None:
        self._tools = tools
        self._dsn = tools.settings.control_dsn
        self._name = name
        self._scope = scope
        self._budget = budget
        self._asked = asked
        self._check_lock = check_lock
        self._is_changed = False
        self._breaks: list[Break] = []
        self._evidence: Evidence = {}
        self._failed: set[int] = set()
        self._refused: set[int] = set()

    def report(self) -> RepairReport:
        audit.begin_run(self._dsn, self._name, self._scope.pods, self._tools.clock())
        with self._ended():
            self._breaks = self._claim()
            rest = self._scope.open_breaks(self._tools) if len(self._breaks) >= self._budget.breaks_max else []
            beyond = {item.break_id for item in rest}
            if any(mended_with(item.pair) is WAREHOUSE for item in self._breaks):
                self._tools.prepare_build()
            self._tools.on_step("claimed")
            made = self._plan()
            if any(action.kind is ActionKind.BUILD for action in made.actions):
                self._tools.prepare_build()
            self._escalate(made, beyond)
            self._tools.on_step("planned")
            results, recorded = self._act_and_prove(made)
            self._tools.on_step("recorded")
            settled = ledger.settle(
                self._dsn, self._name, attempts_max=self._tools.attempts_max, clock=self._tools.clock
            )
            self._tools.on_step("settled")
        done = audit.actions(self._dsn, now=self._tools.clock(), run=self._name)
        return RepairReport(
            run=self._name,
            is_dry_run=False,
            breaks=tuple(self._breaks),
            plan=made,
            actions=tuple(reversed(done)),
            results=tuple(results),
            recorded=recorded,
            settled=settled,
            refused=tuple(sorted(self._refused)),
            beyond_budget=tuple(sorted({*beyond, *made.deferred})),
        )

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Record how the run ended. After an error, settle its breaks, so that the next run can claim them."""
        try:
            yield
        except BaseException as error:
            ledger.settle(self._dsn, self._name, attempts_max=self._tools.attempts_max, clock=self._tools.clock)
            audit.end_run(self._dsn, self._name, "failed", self._tools.clock(), self._sentence(error))
            raise
        outcome = "done" if self._is_changed or self._failed else "nothing_to_do"
        audit.end_run(self._dsn, self._name, outcome, self._tools.clock())

    def _claim(self) -> list[Break]:
        return ledger.claim(
            self._dsn,
            run=self._name,
            limit=self._budget.breaks_max,
            lease_seconds=self._tools.lease_seconds,
            pods=self._scope.pods,
            pairs=self._scope.pairs,
            break_ids=self._scope.break_ids,
            clock=self._tools.clock,
        )

    def _plan(self) -> Plan:
        """Gather evidence and plan. When evidence cannot be read, release the breaks and raise the error."""
        try:
            made = self._planned()
            if doubted := self._doubted(made):
                self._look_for_faults(doubted)
                made = self._planned()
            self._tools.on_step("evidence")
            return made
        except Exception as error:
            reason = FAILED.format(run=self._name, reason=self._sentence(error))
            ledger.release(self._dsn, self._name, reason=reason, clock=self._tools.clock)
            raise

    def _doubted(self, made: Plan) -> dict[str, set[str]]:
        """Return pod -> the aggregates of which this run, or a person, would write an event from OLTP's rows."""
        asked = {
            break_id
            for escalation in made.escalations
            if escalation.reason.startswith(UNEXPLAINED_BEGINS)
            for break_id in escalation.break_ids
        }
        found: dict[str, set[str]] = {}
        for action in made.actions:
            if action.kind is ActionKind.RESTATE:
                found.setdefault(action.pod, set()).update(action.keys)
        for item in self._breaks:
            if item.break_id in asked and item.aggregate_key is not None:
                found.setdefault(self._evidence[item.pod].home(item.aggregate_key), set()).add(item.aggregate_key)
        return found

    def _planned(self) -> Plan:
        self._evidence = gather(self._tools.settings, self._breaks, self._tools.projection)
        return plan(self._breaks, self._evidence, self._budget)

    def _look_for_faults(self, doubted: Mapping[str, Collection[str]]) -> None:
        """Compare OLTP's identities of these aggregates, and of what they name, and record the result.

        An event from faulty rows would spread the error.
        """
        keys = {pod: frozenset(key.split("/", 2)[2] for key in found) for pod, found in sorted(doubted.items())}
        results = self._tools.recheck((FAULTS,), list(keys), keys)
        ledger.record(self._dsn, results, run=self._name, clock=self._tools.clock)
        for result in results:
            if result.verdict not in (Verdict.CONSISTENT, Verdict.INCONSISTENT):
                raise ComparisonError(NOT_LOOKED.format(pod=result.pod, verdict=result.verdict, reason=result.reason))

    def _escalate(self, made: Plan, beyond: Collection[int]) -> None:
        for escalation in made.escalations:
            self._hand_over(escalation.break_ids, escalation.reason)
        if over := sorted({*beyond, *made.deferred}):
            reason = BUDGET.format(breaks=self._asked.breaks_max, actions=self._asked.actions_max)
            self._hand_over(over, reason)

    def _hand_over(self, break_ids: Collection[int], reason: str) -> None:
        ledger.escalate(self._dsn, break_ids, reason=reason, by=BY, run=self._name, clock=self._tools.clock)

    def _act(self, action: Action) -> None:
        """Execute one action, with audit. An action that depends on a failed one is left to the next run."""
        if self._failed & set(action.causes):
            self._failed |= set(action.causes)
            return
        self._check_lock()
        clock, step, kind = self._tools.clock, self._tools.on_step, action.kind.value
        action_id = audit.begin_action(
            self._dsn, self._name, action, self._look(action), now=clock(), lease_seconds=self._tools.lease_seconds
        )
        step(f"begun {kind}")
        try:
            done = actions.act(self._tools, action, self._name)
        except Exception as error:  # any error of a store: record it and go on with the other actions
            self._failed |= set(action.causes)
            audit.end_action(self._dsn, action_id, now=clock(), error=self._sentence(error))
            return
        step(f"applied {kind}")
        self._is_changed |= done.changed != 0
        audit.end_action(self._dsn, action_id, now=clock(), after=done.after, changed=done.changed)
        self._refuse(action, done)
        step(f"done {kind}")

    def _look(self, action: Action) -> dict[str, Any]:
        try:
            return actions.look(self._tools, action)
        except Exception as error:  # e.g. the store was wiped, and the action repairs that
            return {"not_seen": self._sentence(error)}

    def _refuse(self, action: Action, done: actions.Done) -> None:
        for key, reason in done.refused.items():
            mine = {item.break_id for item in self._breaks if item.aggregate_key == key} & set(action.causes)
            if mine - self._refused:
                self._hand_over(mine - self._refused, reason)
            self._refused |= mine

    def _act_and_prove(self, made: Plan) -> tuple[list[PairResult], Recorded]:
        """Execute the plan, compare again and record. What no build can mend is proven before the build, which is long.

        Returns the results, and what recording them changed.
        """
        builds = [action for action in made.actions if action.kind is ActionKind.BUILD]
        others = [action for action in made.actions if action.kind is not ActionKind.BUILD]
        of_builds = {item.pair for item in self._breaks if mended_with(item.pair) is WAREHOUSE}
        parts: list[tuple[list[Action], set[str] | None]] = [(others, None)]
        if builds:
            parts = [(others, {item.pair for item in self._breaks} - of_builds), (builds, of_builds)]
        results: list[PairResult] = []
        recorded = Recorded(run=self._name)
        for actions_of_part, pairs in parts:
            for action in actions_of_part:
                self._act(action)
            found = self._recheck(made, actions_of_part, pairs)
            recorded += ledger.record(self._dsn, found, run=self._name, clock=self._tools.clock)
            results += found
        return results, recorded

    def _recheck(
        self, made: Plan, executed: Sequence[Action], of_pairs: Collection[str] | None
    ) -> Sequence[PairResult]:
        """Compare the pairs of all breaks with actions, or found in order, in their pods; return the results.

        `executed` are the actions since the last comparison, `of_pairs` the pairs that are compared; None: all.

        We also compare the pods whose last result of these pairs is unknown, perhaps because of the damage that was
        repaired. A check over all pods is unknown while one of them is.
        """
        touched = {cause for action in made.actions for cause in action.causes} | set(made.in_order)
        compared = [
            item for item in self._breaks if item.break_id in touched and (of_pairs is None or item.pair in of_pairs)
        ]
        if not compared:
            return []
        pairs = tuple(dict.fromkeys(item.pair for item in compared))
        newest = latest_results(self._dsn)
        unknown = [item for item in newest if item.verdict is Verdict.UNKNOWN and item.pair in pairs]
        pods = tuple(dict.fromkeys([item.pod for item in compared] + [item.pod for item in unknown]))
        keys = keys_to_compare(
            pairs,
            pods,
            claimed=self._breaks,
            actions=executed,
            incidents=ledger.groups(self._dsn),
            newest=newest,
        )
        results = self._tools.recheck(pairs, pods, keys)
        self._tools.on_step("rechecked")
        return results

    def _sentence(self, error: BaseException) -> str:
        text = self._tools.clean(" ".join(str(error).split()))[:500]
        return text if isinstance(error, TieoutError) and text else f"{type(error).__name__}: {text}"
