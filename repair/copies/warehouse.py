"""Repairs of the warehouse: the marts are built again, once the events are right.

Pure. Belongs here: what breaks of marts and journal need. Does not belong here: building (`derived/builds.py`).
"""

from __future__ import annotations

from contracts.breaks import Break
from contracts.ownership import Copy
from reconcile.pairs import PAIRS
from repair.drafting import Draft
from repair.remedies import remedy_in_finance
from repair.values import PodEvidence

STORED_TABLES = {pair.name: table.partition(".")[2] for pair in PAIRS for table in pair.stored_tables}
"""Pair -> the stored table that it compares, and which is right again once it alone was built again."""


def decide(draft: Draft, item: Break, pod: PodEvidence, copy: Copy) -> None:
    """Ask for the aggregate's remedy, and for a build from its first cut on; for a sum, from that of its event."""
    if item.aggregate_key is None:
        draft.build_sum(item, pod.cuts_of_event(item.key[0] or ""))
        return
    remedy = remedy_in_finance(pod, item.aggregate_key)
    if not draft.remedy(item, remedy, is_enough=False):
        return
    # The restating event also updates the marts, because the next comparison builds them with it.
    if not remedy.is_restated or item.repairs > 1:
        known = pod.aggregates.get(item.aggregate_key)
        draft.build(item, {} if known is None else known.first_cuts, STORED_TABLES.get(item.pair))
