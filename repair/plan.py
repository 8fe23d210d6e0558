"""Plans repairs: from breaks and evidence to actions, in the order in which the stores depend on each other.

Pure: no I/O, no clock. Only this module decides how code repairs what, and what code never repairs.

- The log is republished from the outbox.
- The lake gets the published events again, and complete cuts that it needs next: from the outbox, or for pruned cuts
  from the verified backup.
- A row in OLTP that no event explains bypassed the outbox; a new event states it.
- Views are rebuilt from the lake. Marts are built again from the lowest affected cut on.
- Errors in OLTP itself are escalated to people; so is every repair that would destroy the last evidence.

Belongs here: which break needs what. Does not belong here: evidence (`repair/evidence/`), what an aggregate needs
(`repair/remedies.py`), making actions (`repair/drafting.py`), executing them (`repair/actions.py`).
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
    """Return the plan for claimed breaks, within `budget`.

    Every break is in exactly one place of the plan: cause of actions, escalated, deferred, or in order by now.
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
    """Decide about a copy whose next cut the log lacks: republish if the outbox has it, else rebuild or load."""
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
    """Decide whether the lake or the log is wrong, by the outbox, event by event and cut by cut.

    If only the log has an event, the entry that contains it is wrong, too.
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
        # Only the lake had the event: an earlier repair has removed it and was killed afterwards.
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
    # The restating event also updates the marts, because the next comparison builds them with it.
    if not remedy.is_restated or item.repairs > 1:
        known = pod.aggregates.get(item.aggregate_key)
        draft.build(item, None if known is None else known.lowest_cut)
