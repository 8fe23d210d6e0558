"""Repairs of the search index: its documents are built again from the lake, once the lake is right.

Pure. Belongs here: what breaks of the index need. Does not belong here: rebuilding (`derived/keyed/projection.py`), a
new index beside the old one (`derived/search/reindexing.py`), which a person asks for.
"""

from __future__ import annotations

from contracts.breaks import Break
from contracts.ownership import Copy
from repair.drafting import Draft
from repair.remedies import remedy_of
from repair.values import PodEvidence


def decide(draft: Draft, item: Break, pod: PodEvidence, copy: Copy) -> None:
    """Ask for the aggregate's remedy, then for its document."""
    if draft.remedy(item, remedy_of(pod, item.aggregate_key), is_enough=False):
        draft.rebuild(item, copy.name, pod)
