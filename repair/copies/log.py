"""Repairs of the log, and of copies that the log cannot feed any more: from the outbox, if it still has the events.

Pure. Belongs here: what breaks of the log's comparisons need. Does not belong here: publishing
(`streams/lock_takeover.py`).
"""

from __future__ import annotations

from contracts.breaks import Break
from contracts.ownership import Copy
from contracts.verdicts import DifferenceClass
from repair.drafting import Draft
from repair.remedies import Remedy, remedy_of
from repair.values import PodEvidence

POSITION_PAIR = "log_positions"

LAKE_BEHIND = (
    "The lake of {pod} needs cut {cut} next, and neither the log nor the outbox (pruned through cut {base}) has it: it "
    "was set back, and the verified backup at hand ends at cut {backup}. Find the backup that reaches further, then "
    "`tieout down`, `tieout restore-lake --discard`, `tieout up` (docs/runbooks/lake.md)."
)


def decide(draft: Draft, item: Break, pod: PodEvidence, copy: Copy) -> None:
    """Decide what a break of the log needs."""
    if item.pair == POSITION_PAIR:
        _position(draft, item, pod)
    else:
        _by_the_outbox(draft, item, pod)


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


def _by_the_outbox(draft: Draft, item: Break, pod: PodEvidence) -> None:
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
