"""The ledger of breaks in the control database: recording results, reading breaks, changing a break's state.

Other packages import its functions from here. Belongs here: everything that reads or writes those tables. Does not
belong here: comparing (`reconcile/`), repairing (`repair/repair_run.py`), alerting people (`repair/alerts/`).
"""

from repair.ledger.ending import unproven
from repair.ledger.reads import (
    Change,
    accepted_events,
    break_of,
    breaks,
    count_breaks,
    find_break,
    find_group,
    group_ids,
    groups,
    history,
    unended_keys,
)
from repair.ledger.recording import Recorded, record
from repair.ledger.schema import hold_ledger, migrate, next_moment
from repair.ledger.states import Settled, accept, assign, claim, escalate, release, reopen, settle

__all__ = [
    "Change",
    "Recorded",
    "Settled",
    "accept",
    "accepted_events",
    "assign",
    "break_of",
    "breaks",
    "claim",
    "count_breaks",
    "escalate",
    "find_break",
    "find_group",
    "group_ids",
    "groups",
    "history",
    "hold_ledger",
    "migrate",
    "next_moment",
    "record",
    "release",
    "reopen",
    "settle",
    "unended_keys",
    "unproven",
]
