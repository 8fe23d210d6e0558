"""Repairs of carts: a merge of both stores, which cannot take out what a shopper has not taken out.

Pure. Belongs here: what breaks of carts need. Does not belong here: merging (`repair/serving.py`).
"""

from __future__ import annotations

from contracts.breaks import Break
from contracts.ownership import Copy
from contracts.verdicts import DifferenceClass
from repair.drafting import Draft
from repair.values import PodEvidence

MERGED = frozenset({DifferenceClass.MISSING, DifferenceClass.STALE})
NOT_BY_MERGE = (
    "Both stores say to have the same changes of this cart, and hold other units, or one cannot be read: somebody "
    "wrote past the rules, and a merge would hide which side is right (docs/runbooks/carts.md)."
)


def decide(draft: Draft, item: Break, pod: PodEvidence, copy: Copy) -> None:
    """Ask for a merge where one of the stores only lacks something; else for a person."""
    if item.kind in MERGED:
        draft.merge_cart(item)
    else:
        draft.escalate(item, NOT_BY_MERGE)
