"""Repairs of the lake: events given back from outbox or backup, or removed.

Pure. Belongs here: what breaks of OLTP against the lake need. Does not belong here: writing to the lake
(`repair/lake_actions.py`).
"""

from __future__ import annotations

from contracts.breaks import Break
from contracts.ownership import Copy
from repair.drafting import Draft
from repair.remedies import remedy_of
from repair.values import PodEvidence


def decide(draft: Draft, item: Break, pod: PodEvidence, copy: Copy) -> None:
    """Ask for what the break's aggregate needs; the lake holds nothing else."""
    draft.remedy(item, remedy_of(pod, item.aggregate_key))
