"""Repairs of webhooks' notes: what had to be told is noted again from the lake, and told again; the rest is withdrawn.

Pure. Belongs here: what breaks of the notes need. Does not belong here: noting (`derived/webhooks/again.py`).
"""

from __future__ import annotations

from contracts.breaks import Break
from contracts.ownership import Copy
from repair.drafting import Draft
from repair.remedies import remedy_of
from repair.values import PodEvidence


def decide(draft: Draft, item: Break, pod: PodEvidence, copy: Copy) -> None:
    """Ask for the aggregate's remedy, because the notes follow the lake; then for the note.

    A position above every cut needs nothing: the consumer itself begins anew at the end of the log.
    """
    if item.entity == "positions":
        draft.in_order(item)
    elif draft.remedy(item, remedy_of(pod, item.aggregate_key), is_enough=False):
        draft.redeliver(item)
