"""Decides which breaks a result ends, and whether as repaired or as vanished.

Belongs here: what a comparison proves about keys that it does not list. Does not belong here: opening breaks, and which
results count (`recording.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.verdicts import PairResult
from reconcile.pairs import PAIRS
from repair.ledger.schema import Connection, one, reading
from repair.values import ActionKind

GONE = """
create temporary table if not exists gone (
    break_id bigint, from_state text, first_seen_at timestamptz, aggregate_key text, merchant_id text, day text,
    currency text
) on commit drop
"""
# This comparison proves nothing about a repair that began after it. Also, if another comparison has seen the break
# while this one was reading, it is not known which of the two read first. Then the break stays, and the next comparison
# decides.
FOUND_GONE = """
insert into gone
select b.break_id, b.state, b.first_seen_at, b.aggregate_key, b.merchant_id, b.day, b.currency
from trust.breaks as b
where b.pair = %(pair)s and b.pod = %(pod)s and b.ended_at is null
  and not exists (select from incoming as i where i.entity = b.entity and i.key = b.key)
  and (b.aggregate_key is null or b.aggregate_key <> all(%(late_aggregates)s))
  and (%(is_whole)s or b.break_id = any(%(looked_at)s))
  and (b.seen_until is null or coalesce(b.seen_until < %(moment)s, false))
  and (b.state <> 'repairing' or case
      when b.claimed_moment is not null and %(moment)s::bigint is not null then b.claimed_moment < %(moment)s
      else b.claimed_at <= %(checked_at)s and (%(chooses_cut)s or b.claimed_cut is null or b.claimed_cut < %(cut)s)
  end)
"""
# A break is repaired when the audit has an action that changed something since the break was found. The action must
# have the break itself as cause, or its aggregate, or an aggregate in its sum. An action in the break's copy with other
# causes also counts if it changed the aggregate or every row, because a comparison may find a difference that a repair
# is already working on. An action that found everything right has changed nothing and does not count. An action in a
# copy that is derived from others (a view, the marts) counts only for that copy.
IN_ORDER = """
with done as (
    select a.action_id, a.run, coalesce(a.ended_at, 'infinity') as ended_at, b.break_id, b.aggregate_key, b.merchant_id,
           b.day, b.currency
    from trust.repair_actions as a
    cross join lateral unnest(a.causes) as cause (break_id)
    join trust.breaks as b on b.break_id = cause.break_id and b.pod = %(pod)s
    where coalesce(a.ended_at, 'infinity') >= (select min(first_seen_at) from gone)
      and a.changed is distinct from 0
      and (a.store <> all(%(ends)s) or %(copy)s::text is null or a.store = %(copy)s)
),
done_to as (
    select g.break_id, d.action_id, d.run
    from gone as g
    join done as d
      on coalesce(g.aggregate_key, g.break_id::text) = coalesce(d.aggregate_key, d.break_id::text)
     and d.ended_at >= g.first_seen_at
    union
    select g.break_id, d.action_id, d.run
    from (select * from gone where aggregate_key is null) as g
    join (select distinct action_id, run, ended_at, merchant_id, day, currency from done) as d
      on (g.merchant_id is null or g.merchant_id = d.merchant_id) and (g.day is null or g.day = d.day)
     and (g.currency is null or g.currency = d.currency) and d.ended_at >= g.first_seen_at
    union
    select g.break_id, a.action_id, a.run
    from (select * from gone where aggregate_key is not null) as g
    join trust.repair_actions as a
      on a.store = %(copy)s and a.pod = %(pod)s and coalesce(a.ended_at, 'infinity') >= g.first_seen_at
     and a.changed is distinct from 0 and (a.kind = %(of_all)s or g.aggregate_key = any(a.keys))
),
repaired as (
    select distinct on (t.break_id) t.break_id, t.run
    from done_to as t join gone as g on g.break_id = t.break_id and g.from_state in ('open', 'repairing')
    order by t.break_id, t.action_id desc
),
ended as (
    update trust.breaks as b
    set state = case when r.run is null then 'vanished' else 'repaired' end,
        reason = case when r.run is null then %(vanished)s else %(repaired)s || r.run || '.' end,
        ended_at = %(checked_at)s, lease_until = null
    from gone as g left join repaired as r on r.break_id = g.break_id
    where b.break_id = g.break_id
    returning b.break_id, g.from_state, b.state as to_state, b.reason
),
logged as (
    insert into trust.break_history (break_id, at, from_state, to_state, by, reason, run)
    select break_id, %(now)s, from_state, to_state, %(by)s, reason, %(run)s from ended
)
select count(*) filter (where to_state = 'repaired') as repaired,
       count(*) filter (where to_state = 'vanished') as vanished
from ended
"""
ENDS = sorted({pair.copy for pair in PAIRS if pair.copy} - {"log", "lake"})
"""Copies from which no other copy is built."""
OF_ALL = ActionKind.REBUILD_VIEW.value
"""The kind of action that changes every row of a copy. A build is none, because it begins at a cut."""

UNENDED = """
select break_id, aggregate_key from trust.breaks
where pair = %(pair)s and pod = %(pod)s and ended_at is null and aggregate_key is not null
"""
OF_RUN = """
select break_id, pair, pod, entity, key, aggregate_key from trust.breaks
where claimed_run = %(run)s and state = 'repairing' order by break_id
"""
ENDED_GROUPS = """
update trust.break_groups as g set ended_at = %(checked_at)s
where g.pair = %(pair)s and g.pod = %(pod)s and g.ended_at is null
  and not exists (select from trust.breaks as b where b.group_id = g.group_id and b.ended_at is null)
returning group_id
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The numbers of breaks, and the incidents, that one result ended."""

    repaired: int
    vanished: int
    group_ids: list[int]


def end(connection: Connection, result: PairResult, bound: Mapping[str, Any]) -> Ended:
    """End the breaks whose key the result covers and does not list; the listed keys are in the table `incoming`."""
    looked_at = [] if result.is_whole else _looked_at(connection, result)
    connection.execute(GONE)
    connection.execute("truncate gone")
    gone = connection.execute(FOUND_GONE, {**bound, "is_whole": result.is_whole, "looked_at": looked_at})
    repaired = vanished = 0
    if gone.rowcount:
        # Without statistics the planner assumes one row, and joins 10,000 keys with as many causes in a nested loop.
        connection.execute("analyze gone")
        copies = {pair.name: pair.copy for pair in PAIRS}
        ended = one(connection, IN_ORDER, {**bound, "ends": ENDS, "of_all": OF_ALL, "copy": copies.get(result.pair)})
        repaired, vanished = ended["repaired"], ended["vanished"]
    groups = [row["group_id"] for row in connection.execute(ENDED_GROUPS, bound)]
    return Ended(repaired=repaired, vanished=vanished, group_ids=groups)


def _looked_at(connection: Connection, result: PairResult) -> list[int]:
    """Return the unended breaks whose aggregate was in the result's scope; breaks of sums never are."""
    assert result.scope is not None
    unended = connection.execute(UNENDED, {"pair": result.pair, "pod": result.pod}).fetchall()
    return [row["break_id"] for row in unended if result.scope.covers(str(row["aggregate_key"]).split("/", 2)[2])]


def unproven(control_dsn: str, run: str, results: Sequence[PairResult]) -> list[int]:
    """Return the breaks that a repair still holds although one of these results, which are recorded, has their key in
    order: another comparison has seen them while this one was reading (`FOUND_GONE`).
    """
    known = {(one.pair, one.pod): one for one in results}
    with reading(control_dsn) as connection:
        held = connection.execute(OF_RUN, {"run": run}).fetchall()
    return [row["break_id"] for row in held if _is_in_order(known.get((row["pair"], row["pod"])), row)]


def _is_in_order(result: PairResult | None, row: Mapping[str, Any]) -> bool:
    """Return whether a result says that the key of a break agrees."""
    if result is None or not (result.is_of_keys and result.is_sample_complete):
        return False
    if any(item.entity == row["entity"] and list(item.key) == row["key"] for item in result.sample):
        return False
    key = row["aggregate_key"]
    if key in result.late_aggregates:
        return False
    return result.scope is None or (key is not None and result.scope.covers(str(key).split("/", 2)[2]))
