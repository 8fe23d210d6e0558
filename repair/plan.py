"""The plan: from breaks and evidence to actions, in the order in which the stores depend on each other.

Pure: no I/O, no clock. What is mended how, and what is never mended by code, is decided here and nowhere else.

- The log is published again from the outbox.
- The lake is given back what left the pod: from the outbox, for pruned cuts from the verified backup; so are whole cuts
  that it needs next.
- What OLTP holds and no event says was written past the outbox; a new event states it.
- Views are rebuilt from the lake, marts are built again from the lowest cut concerned.
- A fault of OLTP itself, and whatever would destroy the last evidence of something, goes to people.

Belongs here: which break needs what. Does not belong here: finding out (`repair/evidence/`), what an aggregate needs
(`repair/remedies.py`), making actions of it (`repair/drafting.py`), doing them (`repair/actions.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.breaks import Break
from contracts.ownership import LAKE, LOG, OWNER_FAMILIES, WAREHOUSE, Copy, read_model_compared_by
from contracts.verdicts import DifferenceClass
from repair.drafting import Draft
from repair.remedies import Remedy, remedy_in_finance, remedy_of
from repair.values import Budget, Evidence, Plan, PodEvidence

POSITION_PAIR = "log_positions"

LAKE_BEHIND = (
    "The lake of {pod} needs cut {cut} next, and neither the log nor the outbox (pruned through cut {base}) has it: it "
    "was set back, and the verified backup at hand ends at cut {backup}. Find the backup that reaches further, then "
    "`tieout down`, `tieout restore-lake --discard`, `tieout up` (docs/runbooks/lake.md)."
)
OWNER_FAULT = "OLTP itself is at fault, and the owner's books are corrected by people only: by a command."


def plan(breaks: Sequence[Break], evidence: Evidence, budget: Budget) -> Plan:
    """Return what is to be done about claimed breaks, at most as much as `budget` allows.

    Every break is in exactly one place: a cause of actions, escalated, deferred, or found in order by now.
    """
    ordered = sorted(breaks, key=lambda item: item.break_id)
    draft = Draft(evidence)
    for item in ordered[: budget.breaks_max]:
        _decide(draft, item, evidence[item.pod])
    beyond = [item.break_id for item in ordered[budget.breaks_max :]]
    return draft.finished(beyond, budget.actions_max)


def _decide(draft: Draft, item: Break, pod: PodEvidence) -> None:
    family = item.pair.partition(".")[0]
    if family in OWNER_FAMILIES:
        draft.escalate(item, OWNER_FAULT)
    elif item.kind is DifferenceClass.PARKED:
        _parked(draft, item, pod)
    elif item.pair == POSITION_PAIR:
        _position(draft, item, pod)
    elif family in LOG.found_by:
        _log(draft, item, pod)
    elif family in LAKE.found_by:
        draft.remedy(item, remedy_of(pod, item.aggregate_key))
    elif (view := read_model_compared_by(item.pair)) is not None:
        _view(draft, item, pod, view)
    elif family in WAREHOUSE.found_by:
        _warehouse(draft, item, pod)
    else:
        draft.escalate(item, f"There is no rule by which code mends what {item.pair} finds.")


def _parked(draft: Draft, item: Break, pod: PodEvidence) -> None:
    projection = (read_model_compared_by(item.pair) or LAKE).name
    if item.aggregate_key in pod.parked_in(projection):
        draft.replay(item, projection)
    else:
        draft.in_order(item)


def _position(draft: Draft, item: Break, pod: PodEvidence) -> None:
    """A copy that the log no longer reaches: the log is written again from there on, as far as the outbox has it."""
    copy = item.key[0] or ""
    needed = pod.gaps.get(copy)
    if needed is None:
        draft.in_order(item)
    elif needed > pod.base_cut:
        draft.republish(item, needed, pod, is_lost=True)
    elif copy in pod.views:
        draft.rebuild(item, copy, pod)
    elif pod.backed_up_cut >= max(needed, pod.base_cut):
        draft.load(item, needed, pod)
    else:
        draft.escalate(item, LAKE_BEHIND.format(pod=pod.pod, cut=needed, base=pod.base_cut, backup=pod.backed_up_cut))


def _log(draft: Draft, item: Break, pod: PodEvidence) -> None:
    """Tell a wrong lake from a wrong log: the outbox decides, event by event and cut by cut.

    An event that only the log has stands in one of its entries, which then is wrong too.
    """
    remedy = remedy_of(pod, item.aggregate_key)
    if item.entity == "outbox_events":
        draft.remedy(item, remedy)
    elif item.entity == "manifest_counts":
        cut = int(item.key[0] or 0)
        damages = tuple(damage for damage in pod.damages if damage.cut == cut)
        refusals = [remedy_of(pod, damage.aggregate_key).refusal for damage in damages]
        refusal = next(filter(None, refusals), "")
        if damages:
            draft.remedy(item, Remedy(damages=damages, refusal=refusal))
        else:
            draft.republish(item, cut, pod)
    elif item.entity in ("log_counts", "log_entries"):
        draft.republish(item, int(item.key[0] or 0), pod)
    elif remedy.is_needed:
        draft.remedy(item, remedy)
    elif pod.wrong_log_cuts and item.kind is DifferenceClass.MISSING and item.key[0] not in pod.event_cuts:
        draft.republish(item, min(pod.wrong_log_cuts), pod)
    elif (found := pod.event_cuts.get(item.key[0] or "")) is not None:
        draft.republish(item, found, pod)
    elif item.kind is DifferenceClass.EXTRA:
        # Only the lake had it, and has it no more: an earlier repair, killed afterwards, has taken it out.
        draft.in_order(item)
    else:
        draft.escalate(item, f"The log has event {item.key[0]}, which neither the outbox nor the lake of the pod has.")


def _view(draft: Draft, item: Break, pod: PodEvidence, view: Copy) -> None:
    remedy = remedy_of(pod, item.aggregate_key)
    if not draft.remedy(item, remedy, is_enough=False):
        return
    draft.rebuild(item, view.name, pod)


def _warehouse(draft: Draft, item: Break, pod: PodEvidence) -> None:
    if item.aggregate_key is None:
        draft.build_sum(item, pod.event_cuts.get(item.key[0] or ""))
        return
    remedy = remedy_in_finance(pod, item.aggregate_key)
    if not draft.remedy(item, remedy, is_enough=False):
        return
    # The event that restates it brings the marts along: the build of the next comparison has it.
    if not remedy.is_restated or item.repairs > 1:
        known = pod.aggregates.get(item.aggregate_key)
        draft.build(item, None if known is None else known.lowest_cut)
