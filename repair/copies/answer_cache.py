"""Repairs of the cache: a wrong answer is dropped; with wrong floors, the cache begins anew.

Pure. Belongs here: what breaks of the cache need. Does not belong here: dropping (`repair/serving.py`).
"""

from __future__ import annotations

from contracts.breaks import Break
from contracts.ownership import Copy
from repair.drafting import Draft
from repair.values import PodEvidence


def decide(draft: Draft, item: Break, pod: PodEvidence, copy: Copy) -> None:
    """Ask to drop what is wrong. A floor belongs to no answer alone, so then all answers of the pod are dropped."""
    draft.drop_answers(item)
