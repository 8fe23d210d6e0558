"""The outcome of a damage, computed only from the ledger of breaks, the audit and the stored comparisons.

Belongs here: judging a cell by these records. Does not belong here: damaging and repairing (`bench/repairs.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from contracts.breaks import ENDED, Break, BreakState
from contracts.clock import utc_now
from contracts.verdicts import DifferenceClass
from drills.damages.place import Cell, Harm, Names
from reconcile.results import result_history
from repair import audit, ledger
from repair.audit import AuditedAction

ERRORS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Done:
    """A damage that was done."""

    cell: Cell
    harm: Harm
    pod: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one damage."""

    store: str
    damage: str
    breaks: int
    """The number of keys that differ because of it, over all comparisons."""
    named: tuple[str, ...]
    """Pair and difference classes that the comparisons reported."""
    found_seconds: float | None
    """Seconds from the damage to the comparison that found it."""
    outcome: str
    """`repaired`, `put before people`, `mended itself`, or `left`."""
    actions: tuple[str, ...]
    """The kinds of the repair actions."""
    audit_rows: tuple[int, ...]
    tries: int
    """The largest number of repairs for one of its breaks."""
    repaired_seconds: float | None
    """Seconds from finding it to the comparison that found the data right."""
    proven_at: tuple[str, ...]
    """Pair and cut of the comparisons that found the data right."""
    faults: tuple[str, ...] = ()
    """Deviations from the required outcome; empty: there are none."""

    @property
    def is_expected(self) -> bool:
        """Whether the outcome is as required."""
        return not self.faults


@dataclass(kw_only=True)
class _Findings:
    breaks: list[Break]
    actions: list[AuditedAction]
    faults: list[str] = field(default_factory=list)


def outcome_of(control_dsn: str, done: Done, own: Collection[str]) -> Outcome:
    """Return the outcome of a damage; `own`: keys of the aggregates that other damages of the round touched."""
    found = _Findings(breaks=breaks_of(control_dsn, done, own), actions=[])
    causes = {item.break_id for item in found.breaks}
    found.actions = [
        action for action in audit.actions(control_dsn, now=utc_now(), limit=100_000) if causes & set(action.causes)
    ]
    named = _named(done.cell, found.breaks)
    outcome = _outcome(done, found, named)
    first = min((item.first_seen_at for item in found.breaks), default=None)
    last = max((item.ended_at for item in found.breaks if item.ended_at is not None), default=None)
    return Outcome(
        store=done.cell.store,
        damage=done.cell.damage,
        breaks=len(found.breaks),
        named=tuple(f"{pair}: {', '.join(sorted(kinds))}" for pair, kinds in sorted(named.items())),
        found_seconds=None if first is None else round((first - done.at).total_seconds(), 1),
        outcome=outcome,
        actions=tuple(sorted({action.kind for action in found.actions})),
        audit_rows=tuple(sorted(action.action_id for action in found.actions)),
        tries=max((item.repairs for item in found.breaks), default=0),
        repaired_seconds=None if first is None or last is None else round((last - first).total_seconds(), 1),
        proven_at=_proven_at(control_dsn, found) if outcome == "repaired" else (),
        faults=tuple(found.faults),
    )


def breaks_of(control_dsn: str, done: Done, own: Collection[str]) -> list[Break]:
    """Return the breaks of this damage: of its aggregates or else of its pairs, and found after the damage."""
    return breaks_among(ledger.breaks(control_dsn, pod=done.pod, limit=None), done, own)


def breaks_among(found: Sequence[Break], done: Done, own: Collection[str]) -> list[Break]:
    """Return those of the given breaks that `breaks_of` returns."""
    fresh = [item for item in found if item.pod == done.pod and item.first_seen_at >= done.at]
    if done.harm.aggregates:
        return [item for item in fresh if item.aggregate_key in done.harm.aggregates]
    return [item for item in fresh if item.pair in done.cell.pairs and item.aggregate_key not in own]


def _named(cell: Cell, breaks: Sequence[Break]) -> Names:
    named: dict[str, set[DifferenceClass]] = {}
    for item in breaks:
        if item.pair in cell.pairs:
            named.setdefault(item.pair, set()).add(item.kind)
    return {pair: frozenset(kinds) for pair, kinds in named.items()}


def _outcome(done: Done, found: _Findings, named: Names) -> str:
    """Return the outcome in words, and add deviations to the faults."""
    cell, states = done.cell, Counter(item.state for item in found.breaks)
    if not found.breaks:
        if not cell.may_mend_itself:
            found.faults.append("it was not found")
        return "mended itself"
    found.faults += misnamed(cell, named)
    if cell.is_for_people:
        return _before_people(cell, found, states)
    if cell.may_mend_itself and set(states) == {BreakState.VANISHED}:
        return "mended itself"
    left = [item for item in found.breaks if _is_left(cell, item)]
    if left or BreakState.REPAIRED not in states:
        found.faults += [
            f"break {item.break_id} is {item.state}: {item.reason}" for item in (left or found.breaks)[:ERRORS_SHOWN]
        ]
        return "left"
    _check_audit(cell, found)
    return "repaired"


def misnamed(cell: Cell, named: Names) -> list[str]:
    """Return a sentence for each pair that reported other classes than the cell requires."""
    faults = []
    for pair in cell.pairs:
        reported = named.get(pair, frozenset())
        required, one_of, any_of = (
            names.get(pair, frozenset()) for names in (cell.named, cell.named_one_of, cell.named_any_of)
        )
        is_other = (
            (required and reported - cell.may_also_be != required)
            or (one_of and not (len(reported) == 1 and reported <= one_of))
            or (any_of and not (reported and reported <= any_of))
        )
        if is_other:
            wanted = ", ".join(sorted(required)) or " or ".join(sorted(one_of)) or " and/or ".join(sorted(any_of))
            faults.append(f"{pair} names it {', '.join(sorted(reported)) or 'nothing'}, not {wanted}")
    return faults


def _is_left(cell: Cell, item: Break) -> bool:
    """Return whether a break has not ended, or vanished without a repair (unless running workers may mend it)."""
    is_by_itself = item.state is BreakState.VANISHED and not item.repairs and not cell.may_mend_itself
    return item.state not in ENDED or is_by_itself


def _before_people(cell: Cell, found: _Findings, states: Counter[BreakState]) -> str:
    if set(states) != {BreakState.ESCALATED}:
        found.faults += [
            f"break {item.break_id} is {item.state}, not escalated" for item in found.breaks[:ERRORS_SHOWN]
        ]
        return "left"
    if found.actions:
        found.faults.append(f"code touched it: {', '.join(sorted({action.kind for action in found.actions}))}")
    if not any(cell.reason in item.reason for item in found.breaks):
        found.faults.append(f"the reason says otherwise: {found.breaks[0].reason}")
    return "put before people"


def _check_audit(cell: Cell, found: _Findings) -> None:
    kinds = {action.kind for action in found.actions}
    is_instead = bool(cell.may_instead) and kinds.issuperset(cell.may_instead)
    if (missing := [kind for kind in cell.actions if kind not in kinds]) and not is_instead:
        found.faults.append(f"the audit lacks {', '.join(missing)}; it has {', '.join(sorted(kinds)) or 'nothing'}")
    for action in found.actions:
        if action.outcome not in ("done", "nothing_to_do") or action.after is None:
            found.faults.append(f"action {action.action_id} ({action.kind}) is {action.outcome}: {action.error}")


def _proven_at(control_dsn: str, found: _Findings) -> tuple[str, ...]:
    """Return pair and cut of the consistent comparisons that ended the breaks; add a fault for a break without one."""
    proven: set[str] = set()
    compared = {(item.pair, item.pod) for item in found.breaks}
    histories = {one: result_history(control_dsn, *one, limit=20) for one in compared}
    for item in found.breaks:
        history = histories[item.pair, item.pod]
        ending = next((result for result in history if result.checked_at == item.ended_at), None)
        if ending is None or not ending.is_of_keys:
            found.faults.append(f"no comparison ended break {item.break_id}")
        elif item.first_seen_cut is not None and (ending.cut or 0) <= item.first_seen_cut and not ending.cut_vector:
            found.faults.append(f"break {item.break_id} was ended at cut {ending.cut}, where it was found")
        else:
            proven.add(f"{item.pair} at {ending.cut}")
    return tuple(sorted(proven))


def unsettled(control_dsn: str) -> list[str]:
    """Return a description of each break that has not ended."""
    found = ledger.breaks(control_dsn, states=[state for state in BreakState if state not in ENDED], limit=None)
    return [
        f"{item.pair} of {item.pod}: {item.entity} {item.key} {item.kind}, {item.state} {item.reason}" for item in found
    ]
