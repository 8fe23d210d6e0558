"""Plans repairs: from breaks and evidence to actions, in the order in which the stores depend on each other.

Pure: no I/O, no clock. How a copy is repaired stands in a module named after it (`repair/copies/`).

- The log is republished from the outbox.
- The lake gets the published events again, and complete cuts that it needs next: from the outbox, or for pruned cuts
  from the verified backup.
- A row in OLTP that no event explains bypassed the outbox; a new event states it.
- Views are rebuilt from the lake, and from there merchants are told what was not noted. Marts are built again from the
  lowest affected cut on.
- Carts are merged, wrong answers of the cache are dropped.
- Errors in OLTP itself are escalated to people; so is every repair that would destroy the last evidence.

Belongs here: which rules apply to a break. Does not belong here: the rules of one copy (`repair/copies/`), evidence
(`repair/evidence/`), what an aggregate needs (`repair/remedies.py`), making actions (`repair/drafting.py`), executing
them (`repair/actions.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from contracts.breaks import Break
from contracts.ownership import KEYED, LAKE, OWNER_FAMILIES, Copy, CopyKind, family_of, mended_with
from contracts.verdicts import DifferenceClass
from repair.copies import answer_cache, cart, lake, log, read_models, search, warehouse, webhooks
from repair.drafting import Draft
from repair.values import Budget, Evidence, Plan, PodEvidence

OWNER_FAULT = "OLTP itself is at fault, and the owner's books are corrected by people only: by a command."

Decide = Callable[[Draft, Break, PodEvidence, Copy], None]
RULES: Mapping[CopyKind, Decide] = {
    CopyKind.LOG: log.decide,
    CopyKind.LAKE: lake.decide,
    CopyKind.WAREHOUSE: warehouse.decide,
    CopyKind.READ_MODEL: read_models.decide,
    CopyKind.SEARCH: search.decide,
    CopyKind.CACHE: answer_cache.decide,
    CopyKind.CART: cart.decide,
    CopyKind.WEBHOOKS: webhooks.decide,
}
"""Kind of copy -> what its breaks need."""


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
    copy = mended_with(item.pair)
    if family_of(item.pair) in OWNER_FAMILIES:
        draft.escalate(item, OWNER_FAULT)
    elif item.kind is DifferenceClass.PARKED:
        _parked(draft, item, pod, copy if copy in KEYED else LAKE)
    elif copy is not None:
        RULES[copy.kind](draft, item, pod, copy)
    else:
        draft.escalate(item, f"There is no rule by which code mends what {item.pair} finds.")


def _parked(draft: Draft, item: Break, pod: PodEvidence, projection: Copy) -> None:
    if item.aggregate_key in pod.parked_in(projection.name):
        draft.replay(item, projection.name)
    else:
        draft.in_order(item)
