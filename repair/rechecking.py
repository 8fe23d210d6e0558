"""Which keys the comparison after a repair must look at: those that the repair touched, or every key of the pod.

The comparison is narrowed only where the repair can name everything that it wrote, and where the ledger has every key
that differed. It then also looks at every key with an unended break (`repair/sweeping.py`), and what changed meanwhile
is left to the reconciler's rounds. Everywhere else it is complete.

Belongs here: that decision, on values. Does not belong here: comparing (`reconcile/`), which pairs and pods are
compared again (`repair/repair_run.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from contracts.breaks import Break, BreakGroup
from contracts.verdicts import PairResult
from reconcile.sweep import SUSPECTS_MAX
from repair.values import Action, ActionKind

WRITES_ITS_KEYS = frozenset(
    {
        ActionKind.REPLAY_PARKED,
        ActionKind.RESTATE,
        ActionKind.REBUILD_KEYS,
        ActionKind.MERGE_CARTS,
        ActionKind.DROP_ANSWERS,
    }
)
"""These actions name the aggregates that they write."""
WRITES_ITS_CAUSES = frozenset(
    {
        ActionKind.RESTORE_EVENTS,
        ActionKind.REPLACE_EVENTS,
        ActionKind.REMOVE_DUPLICATES,
        ActionKind.REMOVE_EXTRA_EVENTS,
    }
)
"""These actions name events, which belong to the aggregates of the breaks that they repair."""


def keys_to_compare(
    pairs: Collection[str],
    pods: Collection[str],
    *,
    claimed: Sequence[Break],
    actions: Sequence[Action],
    incidents: Sequence[BreakGroup],
    newest: Sequence[PairResult],
) -> dict[str, frozenset[str]]:
    """Return pod -> the aggregate ids that the comparison after a repair looks at; pods that are left out: every key.

    `claimed` are the breaks of the repair, `actions` everything that it did, `incidents` those that have not ended, and
    `newest` the newest results of all pairs.
    """
    found = {}
    for pod in pods:
        if _is_unknown(pairs, pod, incidents, newest):
            continue
        ids = _written(pod, claimed, actions)
        if ids is not None and len(ids) <= SUSPECTS_MAX:
            found[pod] = ids
    return found


def _is_unknown(
    pairs: Collection[str], pod: str, incidents: Sequence[BreakGroup], newest: Sequence[PairResult]
) -> bool:
    """Return whether keys may differ that the ledger does not name: unlisted ones, or those of a store not read."""
    unlisted = any(
        item.keys > sum(item.counts.values()) for item in incidents if item.pair in pairs and item.pod == pod
    )
    return unlisted or any(not one.is_of_keys for one in newest if one.pair in pairs and one.pod == pod)


def _written(pod: str, claimed: Sequence[Break], actions: Sequence[Action]) -> frozenset[str] | None:
    """Return the ids of all aggregates that a repair wrote in a pod or found in order; None: it cannot name them."""
    keys: set[str | None] = {item.aggregate_key for item in claimed if item.pod == pod}
    for action in actions:
        if pod not in action.pod.split(","):
            continue
        if not action.keys or action.kind not in WRITES_ITS_KEYS | WRITES_ITS_CAUSES:
            return None
        if action.kind in WRITES_ITS_KEYS:
            keys |= set(action.keys)
    ids = {None if key is None else key.split("/", 2)[2] for key in keys}
    return None if None in ids else frozenset(one for one in ids if one is not None)
