"""Reads of the ledger: breaks, groups, the history of a break.

Belongs here: the one place where rows become values. Does not belong here: changing anything.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from contracts.breaks import Break, BreakGroup, BreakState
from contracts.errors import NotFoundError
from contracts.verdicts import ColumnDifference, DifferenceClass
from reconcile.log_pairs import LOG_PAIR, OUTBOX_SHAPE
from repair.ledger.schema import ABSENT, reading

BREAK_COLUMNS = (
    "break_id, group_id, pair, pod, entity, key, kind, merchant_id, day, currency, columns, aggregate_key, state, "
    "owner, reason, first_seen_at, first_seen_cut, last_seen_at, last_seen_cut, times_seen, repairs, ended_at"
)

CHOSEN = """
    (%(states)s::text[] is null or state = any(%(states)s))
    and (%(pair)s::text is null or pair = %(pair)s or split_part(pair, '.', 1) = %(pair)s)
    and (%(pod)s::text is null or pod = %(pod)s)
    and (%(group_id)s::bigint is null or group_id = %(group_id)s)
    and (%(merchant_id)s::text is null or merchant_id = %(merchant_id)s)
    and (%(aggregate_keys)s::text[] is null or aggregate_key = any(%(aggregate_keys)s))
"""
BREAKS = f"select {BREAK_COLUMNS} from trust.breaks where {CHOSEN} order by break_id limit %(limit)s"
UNENDED_KEYS = """
select key from trust.breaks
where pair = %(pair)s and pod = %(pod)s and entity = %(entity)s and ended_at is null
  and (%(state)s::text is null or state = %(state)s)
"""
GROUP_IDS = f"select distinct group_id from trust.breaks where {CHOSEN} order by group_id"
COUNTS = f"select state, count(*) as number from trust.breaks where {CHOSEN} group by state"
GROUPS = """
select g.group_id, g.pair, g.pod, g.kind, g.opened_at, g.opened_cut, g.opened_run, g.keys,
       (select jsonb_object_agg(s.state, s.number) from (
           select b.state, count(*) as number from trust.breaks as b where b.group_id = g.group_id group by b.state
       ) as s) as counts
from trust.break_groups as g
where (g.ended_at is null or not %(unended_only)s) and (%(group_id)s::bigint is null or g.group_id = %(group_id)s)
order by g.group_id
"""
HISTORY = """
select at, from_state, to_state, by, reason, run from trust.break_history where break_id = %(break_id)s
order by history_id
"""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row of a break's history. When both states are equal, it is an assignment."""

    at: datetime
    from_state: BreakState | None
    """None: the break was opened."""
    to_state: BreakState
    by: str
    reason: str
    run: str


def breaks(
    control_dsn: str,
    *,
    states: Collection[BreakState] | None = None,
    pair: str | None = None,
    pod: str | None = None,
    group_id: int | None = None,
    merchant_id: str | None = None,
    aggregate_keys: Collection[str] | None = None,
    limit: int | None = 1_000,
) -> list[Break]:
    """Return breaks, the oldest first; every filter that is None means all. `pair` may be a family."""
    bound = _bound(states, pair, pod, group_id, merchant_id, aggregate_keys)
    with reading(control_dsn) as connection:
        rows = connection.execute(BREAKS, {**bound, "limit": limit}).fetchall()
    return [break_of(row) for row in rows]


def count_breaks(
    control_dsn: str,
    *,
    states: Collection[BreakState] | None = None,
    pair: str | None = None,
    pod: str | None = None,
    group_id: int | None = None,
    merchant_id: str | None = None,
) -> dict[BreakState, int]:
    """Return state -> number of breaks, also for states without breaks (0)."""
    with reading(control_dsn) as connection:
        rows = connection.execute(COUNTS, _bound(states, pair, pod, group_id, merchant_id, None)).fetchall()
    found = {BreakState(row["state"]): int(row["number"]) for row in rows}
    return {state: found.get(state, 0) for state in BreakState}


def accepted_events(control_dsn: str, pod: str) -> list[str]:
    """Return the ids of the events of which a person has accepted that the lake has them otherwise than the outbox."""
    keys = unended_keys(control_dsn, LOG_PAIR.name, pod, OUTBOX_SHAPE.name, state=BreakState.ACCEPTED)
    return [event_id for (event_id,) in keys if event_id is not None]


def unended_keys(
    control_dsn: str, pair: str, pod: str, entity: str, *, state: BreakState | None = None
) -> list[tuple[str | None, ...]]:
    """Return the keys of an entity with unended breaks, accepted ones included; none while there is no ledger."""
    try:
        with reading(control_dsn) as connection:
            rows = connection.execute(
                UNENDED_KEYS, {"pair": pair, "pod": pod, "entity": entity, "state": state}
            ).fetchall()
    except ABSENT:
        return []
    return [tuple(row["key"]) for row in rows]


def group_ids(
    control_dsn: str,
    *,
    states: Collection[BreakState] | None = None,
    pair: str | None = None,
    pod: str | None = None,
    group_id: int | None = None,
    merchant_id: str | None = None,
) -> list[int]:
    """Return the ids of the incidents with such breaks, the oldest first."""
    with reading(control_dsn) as connection:
        rows = connection.execute(GROUP_IDS, _bound(states, pair, pod, group_id, merchant_id, None)).fetchall()
    return [int(row["group_id"]) for row in rows]


def find_break(control_dsn: str, break_id: int) -> Break:
    """Return a break; NotFoundError when there is no such break."""
    with reading(control_dsn) as connection:
        statement = f"select {BREAK_COLUMNS} from trust.breaks where break_id = %(break_id)s"
        row = connection.execute(statement, {"break_id": break_id}).fetchone()
    if row is None:
        raise NotFoundError(f"There is no break {break_id}; `tieout breaks list --all` shows those there are.")
    return break_of(row)


def history(control_dsn: str, break_id: int) -> list[Change]:
    """Return everything that happened to a break, the oldest first; empty when there is no such break."""
    with reading(control_dsn) as connection:
        rows = connection.execute(HISTORY, {"break_id": break_id}).fetchall()
    return [
        Change(
            at=row["at"],
            from_state=None if row["from_state"] is None else BreakState(row["from_state"]),
            to_state=BreakState(row["to_state"]),
            by=row["by"],
            reason=row["reason"],
            run=row["run"],
        )
        for row in rows
    ]


def groups(control_dsn: str, *, unended_only: bool = True) -> list[BreakGroup]:
    """Return the incidents, the oldest first; by default those that have not ended."""
    return _groups(control_dsn, unended_only=unended_only, group_id=None)


def find_group(control_dsn: str, group_id: int) -> BreakGroup:
    """Return an incident; NotFoundError when there is no such incident."""
    found = _groups(control_dsn, unended_only=False, group_id=group_id)
    if not found:
        raise NotFoundError(
            f"There is no group {group_id} of breaks; `tieout breaks list --all` shows those there are."
        )
    return found[0]


def break_of(row: dict[str, Any]) -> Break:
    """Return a break from a row of `BREAK_COLUMNS`."""
    return Break(
        **{
            **row,
            "key": tuple(row["key"]),
            "kind": DifferenceClass(row["kind"]),
            "state": BreakState(row["state"]),
            "columns": tuple(msgspec.convert(row["columns"], list[ColumnDifference])),
        }
    )


def _groups(control_dsn: str, *, unended_only: bool, group_id: int | None) -> list[BreakGroup]:
    with reading(control_dsn) as connection:
        rows = connection.execute(GROUPS, {"unended_only": unended_only, "group_id": group_id}).fetchall()
    return [
        BreakGroup(
            **{
                **row,
                "kind": DifferenceClass(row["kind"]),
                "counts": {BreakState(state): number for state, number in (row["counts"] or {}).items()},
            }
        )
        for row in rows
    ]


def _bound(
    states: Collection[BreakState] | None,
    pair: str | None,
    pod: str | None,
    group_id: int | None,
    merchant_id: str | None,
    aggregate_keys: Collection[str] | None,
) -> dict[str, Any]:
    return {
        "states": None if states is None else [state.value for state in states],
        "pair": pair,
        "pod": pod,
        "group_id": group_id,
        "merchant_id": merchant_id,
        "aggregate_keys": None if aggregate_keys is None else list(aggregate_keys),
    }
