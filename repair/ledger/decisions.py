"""People's decisions about rows in OLTP that no event explains: never deleted, with the values that were shown.

Belongs here: writing and reading those decisions. Does not belong here: carrying them out (`repair/deciding.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from repair.ledger.schema import Connection, reading

DECIDED = """
insert into trust.decisions (at, pod, aggregate_key, decision, digest, by, reason, break_ids, changes)
values (
    %(at)s, %(pod)s, %(aggregate_key)s, %(decision)s, %(digest)s, %(by)s, %(reason)s, %(break_ids)s, %(changes)s
)
"""
IS_THERE = "select to_regclass('trust.decisions') is not null as is_there"
APPROVED = """
select distinct on (aggregate_key) aggregate_key, digest, by from trust.decisions
where pod = %(pod)s and aggregate_key = any(%(keys)s) and decision = 'restate'
order by aggregate_key, decision_id desc
"""


class DecisionKind(StrEnum):
    """The decisions that a person can make."""

    RESTATE = "restate"
    """The row is right: a repair writes a new event with it."""
    CORRECT = "correct"
    """The events are right: the row is restored from them."""


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A person's approval to write an event with exactly the state that was shown."""

    digest: str
    by: str


def write_decision(
    connection: Connection,
    *,
    at: datetime,
    pod: str,
    aggregate_key: str,
    decision: DecisionKind,
    digest: str,
    by: str,
    reason: str,
    break_ids: Sequence[int],
    changes: Sequence[dict[str, Any]],
) -> None:
    """Store a decision, in the caller's transaction of the ledger."""
    connection.execute(
        DECIDED,
        {
            "at": at,
            "pod": pod,
            "aggregate_key": aggregate_key,
            "decision": decision.value,
            "digest": digest,
            "by": by,
            "reason": reason,
            "break_ids": list(break_ids),
            "changes": Jsonb(list(changes)),
        },
    )


def approvals(control_dsn: str, pod: str, aggregate_keys: Collection[str]) -> dict[str, Approval]:
    """Return aggregate key -> its newest approval; aggregates without approval are left out."""
    with reading(control_dsn) as connection:
        found = connection.execute(IS_THERE).fetchone()
        if found is None or not found["is_there"]:
            return {}
        rows = connection.execute(APPROVED, {"pod": pod, "keys": sorted(aggregate_keys)}).fetchall()
    return {row["aggregate_key"]: Approval(digest=row["digest"], by=row["by"]) for row in rows}
