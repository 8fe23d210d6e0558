"""After an event was skipped, its copy lacks facts: compares the copy at once, and accepts the breaks with a reason.

Belongs here: that comparison and acceptance. Does not belong here: skipping an event
(`derived/read_models/skipped.py`), what is shown before (`cli/commands/parked.py`).
"""

from __future__ import annotations

from contracts.breaks import TRANSITIONS, BreakState
from contracts.progress import Progress
from contracts.settings import Settings
from reconcile.pairs import PAIRS
from repair import ledger
from stack.composition.reconciling import reconcile_now


def accept_what_lacks(
    settings: Settings, progress: Progress, copy: str, pod: str, key: str, *, reason: str, by: str
) -> list[int]:
    """Compare a copy, and accept the breaks of one aggregate (merchant/type/id) in `pod`; return the breaks' ids."""
    pairs = [pair.name for pair in PAIRS if pair.copy == copy]
    reconcile_now(settings, progress, None, pairs=pairs)
    may_be = [state for state in BreakState if BreakState.ACCEPTED in TRANSITIONS[state]]
    found = [
        item.break_id
        for pair in pairs
        for item in ledger.breaks(settings.control_dsn, states=may_be, pair=pair, pod=pod, limit=None)
        if item.aggregate_key == key
    ]
    return ledger.accept(settings.control_dsn, break_ids=found, reason=reason, by=by) if found else []
