"""One run of repairs: claim breaks, gather evidence, plan, act, compare again at a new cut, record, settle.

A run may be killed at any step. PostgreSQL then releases its locks, so the next run over the same pods knows at once
that it was killed. The next run settles the claimed breaks and gathers new evidence, so it does only what is still
needed. Belongs here: the order of steps, and what happens when one fails. Does not belong here: what is done about
which break (`repair/plan.py`), how (`repair/actions.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from contracts.breaks import Break, BreakState
from contracts.errors import ComparisonError, TieoutError
from contracts.ids import uuid7
from contracts.ownership import WAREHOUSE, family_of, mended_with
from contracts.verdicts import Verdict
from reconcile.pair import Stage
from reconcile.pairs import PAIRS
from repair import actions, audit, holding, ledger
from repair.evidence.aggregates import FAULTS
from repair.evidence.gathering import gather
from repair.ledger import Settled
from repair.plan import plan
from repair.proving import BuildToCuts, Prover
from repair.remedies import UNEXPLAINED_BEGINS
from repair.run_report import RepairReport
from repair.tools import Repairing
from repair.values import Action, ActionKind, Budget, Evidence, Plan

BY = "repair"
HOUR = timedelta(hours=1)

NEED_BUILDS = {pair.name for pair in PAIRS if pair.stage is Stage.WAREHOUSE}
"""The pairs that can be compared only after a build up to the comparison's cuts."""
NOT_LOOKED = "Whether OLTP of {pod} has faults of its own is {verdict}, so nothing of it is stated again: {reason}"
INTERRUPTED = "The run ended before it was through; the next one goes on."
FAILED = "The repair {run} could not begin: {reason}"
BUDGET = (
    "budget reached: a run takes on {breaks} breaks, and {actions} actions are done within an hour. If so much is to "
    "be repaired, open the breaks again (`tieout breaks reopen`) and allow more (`tieout repair --budget-breaks`)."
)


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
    with holding.holding_pods(tools.settings.control_dsn, scope.pods) as held, holding.living(name):
        busy = tuple(pod for pod in scope.pods if pod not in held.pods)
        if not held.pods:
            return RepairReport(run=name, is_dry_run=False, breaks=(), plan=Plan(), busy_pods=busy)
        _take_over(tools, held.pods)
        report = _Run(tools, name, replace(scope, pods=held.pods), allowed, asked, held).report()
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
    for run in holding.interrupted_runs(dsn, held):
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
        held: holding.HeldPods,
    ) -> None:
        self._tools = tools
        self._dsn = tools.settings.control_dsn
        self._name = name
        self._scope = scope
        self._budget = budget
        self._asked = asked
        self._held = held
        self._prover = Prover(tools=tools, run=name)
        self._settled: Settled | None = None
        self._is_changed = False
        self._breaks: list[Break] = []
        self._evidence: Evidence = {}
        self._failed: set[int] = set()
        self._refused: set[int] = set()

    def report(self) -> RepairReport:
        audit.begin_run(self._dsn, self._name, self._scope.pods, self._tools.clock())
        with self._ended():
            self._breaks = self._claim(self._scope.break_ids)
            rest = self._scope.open_breaks(self._tools) if len(self._breaks) >= self._budget.breaks_max else []
            beyond = {item.break_id for item in rest}
            if any(mended_with(item.pair) is WAREHOUSE for item in self._breaks):
                self._tools.prepare_build()
            self._tools.on_step("claimed")
            made = self._plan(self._breaks, self._budget)
            if any(action.kind is ActionKind.BUILD for action in made.actions):
                self._tools.prepare_build()
            self._escalate(made, beyond)
            self._tools.on_step("planned")
            made = self._act_and_prove(made)
            self._tools.on_step("recorded")
            settled = self._settle().after(self._settled)
            self._tools.on_step("settled")
        done = audit.actions(self._dsn, now=self._tools.clock(), run=self._name)
        return RepairReport(
            run=self._name,
            is_dry_run=False,
            breaks=tuple(self._breaks),
            plan=made,
            actions=tuple(reversed(done)),
            results=tuple(self._prover.results),
            recorded=self._prover.recorded,
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
            self._end("failed", self._sentence(error))
            raise
        outcome = "done" if self._is_changed or self._failed else "nothing_to_do"
        self._end(outcome)

    def _end(self, outcome: str, reason: str = "") -> None:
        steps = self._tools.trace.steps
        audit.end_run(self._dsn, self._name, outcome, self._tools.clock(), reason, steps=steps)

    def _settle(self, break_ids: Collection[int] | None = None) -> Settled:
        attempts, clock = self._tools.attempts_max, self._tools.clock
        return ledger.settle(self._dsn, self._name, attempts_max=attempts, break_ids=break_ids, clock=clock)

    def _claim(self, break_ids: Collection[int] | None) -> list[Break]:
        return ledger.claim(
            self._dsn,
            run=self._name,
            limit=self._budget.breaks_max,
            lease_seconds=self._tools.lease_seconds,
            pods=self._scope.pods,
            pairs=self._scope.pairs,
            break_ids=break_ids,
            clock=self._tools.clock,
        )

    def _plan(self, breaks: Sequence[Break], budget: Budget) -> Plan:
        """Gather evidence and plan. When evidence cannot be read, release the breaks and raise the error."""
        try:
            made = self._planned(breaks, budget)
            doubted = self._doubted(made)
            if doubted and self._has_faults(doubted):
                made = self._planned(breaks, budget)
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

    def _planned(self, breaks: Sequence[Break], budget: Budget) -> Plan:
        self._evidence = gather(self._tools.settings, breaks, self._tools.projection)
        return plan(breaks, self._evidence, budget)

    def _has_faults(self, doubted: Mapping[str, Collection[str]]) -> bool:
        """Compare OLTP's identities of these aggregates, and of what they name; record and return whether some differ.

        An event from faulty rows would spread the error. If none differs, the plan stands: a row that has changed since
        the evidence is not stated.
        """
        keys = {pod: frozenset(key.split("/", 2)[2] for key in found) for pod, found in sorted(doubted.items())}
        results = self._tools.recheck((FAULTS,), list(keys), keys)
        ledger.record(self._dsn, results, run=self._name, clock=self._tools.clock)
        for result in results:
            if result.verdict not in (Verdict.CONSISTENT, Verdict.INCONSISTENT):
                raise ComparisonError(NOT_LOOKED.format(pod=result.pod, verdict=result.verdict, reason=result.reason))
        return any(result.verdict is Verdict.INCONSISTENT for result in results)

    def _escalate(self, made: Plan, beyond: Collection[int]) -> None:
        for escalation in made.escalations:
            self._hand_over(escalation.break_ids, escalation.reason)
        if over := sorted({*beyond, *made.deferred}):
            reason = BUDGET.format(breaks=self._asked.breaks_max, actions=self._asked.actions_max)
            self._hand_over(over, reason)

    def _hand_over(self, break_ids: Collection[int], reason: str) -> None:
        ledger.escalate(self._dsn, break_ids, reason=reason, by=BY, run=self._name, clock=self._tools.clock)

    def _act(self, action: Action) -> actions.Done | None:
        """Execute one action, with audit; None: it failed. What depends on a failed one is left to the next run."""
        if self._failed & set(action.causes):
            self._failed |= set(action.causes)
            return None
        self._held.check()
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
            return None
        step(f"applied {kind}")
        self._is_changed |= done.changed != 0
        audit.end_action(self._dsn, action_id, now=clock(), after=done.after, changed=done.changed)
        self._refuse(action, done)
        step(f"done {kind}")
        return done

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

    def _act_and_prove(self, made: Plan) -> Plan:
        """Execute the plan, compare again and record; return the plan with what that has brought to light.

        What no build can mend is proven first, because a build is long. Then the run gives its pods back: other repairs
        need not wait for it.
        """
        of_builds = self._of_builds()
        others, builds = self._do_others(made)
        of_pairs = {item.pair for item in self._breaks} - of_builds if builds else None
        self._prover.prove(made, self._breaks, others, of_pairs=of_pairs)
        if not (builds or made.maybe_built):
            return made
        self._settled = self._settle([item.break_id for item in self._breaks if item.pair not in of_builds])
        self._held.give_back(self._name)
        if made.maybe_built:
            more = self._plan_for_what_was_built(made)
            builds += self._do_others(more)[1]
            made = made.followed_by(more)
            self._held.give_back(self._name)
        if builds:
            self._build_and_prove(made, builds, self._of_builds())
        else:
            self._prover.prove(made, self._breaks, [], of_pairs=self._of_builds())
        return made

    def _of_builds(self) -> set[str]:
        return {item.pair for item in self._breaks if mended_with(item.pair) is WAREHOUSE}

    def _do_others(self, made: Plan) -> tuple[list[Action], list[Action]]:
        """Execute all actions of a plan but builds; return (these actions, the builds)."""
        builds = [action for action in made.actions if action.kind is ActionKind.BUILD]
        others = [action for action in made.actions if action.kind is not ActionKind.BUILD]
        for action in others:
            self._act(action)
        return others, builds

    def _plan_for_what_was_built(self, made: Plan) -> Plan:
        """Compare what builds may have stored of damaged events, and claim what differs; return the plan for that.

        What was damaged is mended and proven by now. While another run has the pods, what differs is left to the next.
        """
        found = self._prover.compare_stored(made.maybe_built)
        self._tools.on_step("compared stored")
        claimed = self._claim([item.break_id for item in found]) if found and self._held.take_again(self._name) else []
        if not claimed:
            return Plan()
        self._tools.prepare_build()
        self._breaks += claimed
        left = max(0, self._budget.actions_max - len(made.actions))
        more = self._plan(claimed, replace(self._budget, actions_max=left))
        self._escalate(more, ())
        return more

    def _build_and_prove(self, made: Plan, builds: Sequence[Action], of_builds: Collection[str]) -> None:
        """Build, and compare again what builds mend.

        Where a comparison needs a build up to its own cuts, that build is the repair: one, and not another after it.
        """
        *first, last = builds
        to_cuts = None if last.tables or NEED_BUILDS.isdisjoint(of_builds) else BuildToCuts(action=last, act=self._act)
        for action in first if to_cuts else builds:
            self._act(action)
        self._prover.prove(made, self._breaks, builds, of_pairs=of_builds, build=to_cuts)
        if to_cuts and not to_cuts.is_begun:
            self._act(last)  # the comparison did not come to it, e.g. because the lake was late

    def _sentence(self, error: BaseException) -> str:
        text = self._tools.clean(" ".join(str(error).split()))[:500]
        return text if isinstance(error, TieoutError) and text else f"{type(error).__name__}: {text}"
