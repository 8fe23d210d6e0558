"""The scope of an incremental comparison in one pod: computed from pod and lake, applied to both sides alike.

A scope holds four sets of aggregates: those with an event that the pod's snapshot shows and the last comparison's
snapshot did not, those with an event in the lake since then, those with unended breaks, and those in a range of ids.
Of a merchant that came from another pod, what the lake has got of that pod since then counts, too. Both sides are
restricted by the same condition on the aggregate's id, so inside the scope the comparison is as exact as a complete
one. Belongs here: computing and applying that condition. Does not belong here: which range is swept when
(`reconcile/sweep.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import duckdb
import psycopg

from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.scope import KeyRange, Scope, ScopeUnit
from reconcile.scratch import table
from reconcile.sweep import SweepPlan, cut_text, merged, scope_of, taken

SEPARATOR = "\x1f"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# We count orders only, as an estimate for all aggregates: ids begin with their time, so the other aggregates of a
# range's orders are mostly in the same range.
IN_RANGE = """
from oltp.orders
where (%(above)s::uuid is null or order_id > %(above)s::uuid)
  and (%(through)s::uuid is null or order_id <= %(through)s::uuid)
"""
ORDER_COUNT = f"select count(*) {IN_RANGE}"
COUNTED_MAX = 10_000
# How many orders a pod has. A large number is estimated, as the server's planner does it: rows per page when the table
# was last looked at, times its pages now. To count them all would cost every run more as the table grows.
ORDERS = f"""
select case when counted.orders <= {COUNTED_MAX} then counted.orders else greatest(
    counted.orders,
    (c.reltuples / nullif(c.relpages, 0) * pg_relation_size(c.oid) / current_setting('block_size')::integer)::bigint
) end
from (select count(*) as orders from (select from oltp.orders limit {COUNTED_MAX + 1}) as first) as counted,
     pg_class as c where c.oid = 'oltp.orders'::regclass
"""
RANGE_END = f"select order_id::text {IN_RANGE} order by order_id offset %(number)s limit 1"
IS_SMALL = """
select not exists (select from oltp.orders offset %(orders_max)s) and %(orders_max)s > 0
"""
LOWEST_CUT = "select min(cut) from oltp.cuts"

# When the cut is pruned, its later events may be gone from the outbox; then we take all events that are left.
BASE = """
select cut, epoch, pg_snapshot_xmax(snapshot)::text, array(select pg_snapshot_xip(snapshot)::text)
from oltp.cuts where cut >= %(cut)s order by cut limit 1
"""
CHANGED = """
select distinct aggregate_id from oltp.outbox where xid >= %(xmax)s::xid8 or xid = any(%(xip)s::xid8[])
"""
REACHED = """
select pg_snapshot_xmax(reached.snapshot)::text, array(select pg_snapshot_xip(reached.snapshot)::text)
from oltp.cuts as reached join oltp.cuts as later on later.epoch = reached.epoch
where reached.cut = %(reached)s and later.cut = %(cut)s
"""
HAS_LATER = """
select exists (
    select from oltp.outbox
    where (xid >= %(xmax)s::xid8 or xid = any(%(xip)s::xid8[])) and aggregate_id = any(%(ids)s)
)
"""
# A payment must have its order's currency, and a refund changes what its payment and its order may still refund. So
# when we compare a payment or refund, we also compare the aggregates that it names.
NAMED = """
select payment_id::text from oltp.refunds where {refund}
union select order_id::text from oltp.refunds where {refund}
union select order_id::text from oltp.payments where {payment}
union select p.order_id::text from oltp.payments as p join oltp.refunds as r using (payment_id) where {refund}
"""
CHANGED_IN_LAKE = "select distinct aggregate_id from lake.raw.events where pod = $pod and cut > $cut"

CAME = f"""
select
    (select registered_at from oltp.cuts where cut >= %(cut)s order by cut limit 1),
    array(select merchant_id from oltp.residents where directory_epoch > {FIRST_DIRECTORY_EPOCH})
"""
CHANGED_ELSEWHERE = """
with known as (
    select pod, max(cut) as cut from lake.raw.cuts where pod <> $pod and data_at < $since group by pod
)
select distinct e.aggregate_id
from lake.raw.events as e left join known on known.pod = e.pod
where e.pod <> $pod and list_contains($came::varchar[], e.merchant_id) and e.cut > coalesce(known.cut, 0)
"""
CLOCKS_APART = timedelta(hours=1)
"""Cuts of two pods are ordered by the clocks of their servers only; we look at what this much more time has brought."""


@dataclass(frozen=True, kw_only=True)
class PodScope:
    """The scope of a run in one pod."""

    aggregates: Scope
    cuts: tuple[tuple[int, int], ...] = ()
    """The ranges of cuts (after, through] of the log, in order."""
    log: Scope | None = None
    """The same ranges as a scope; None: the whole log."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The part of a scope that is computed before the pod's cut is taken."""

    plan: SweepPlan
    swept: tuple[KeyRange, ...]
    lake_ids: frozenset[str]
    lake_cut: int


def is_small(dsn: str, orders_max: int) -> bool:
    """Return whether a pod has at most `orders_max` orders; False for 0."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return bool(_one(connection, IS_SMALL, {"orders_max": orders_max})[0])


def prepare(lake: duckdb.DuckDBPyConnection, pod: str, dsn: str, plan: SweepPlan, lake_cut: int) -> Prepared:
    """Read the ids that changed in the lake, which is complete up to `lake_cut`, and compute the swept ranges."""
    if not plan.has_changes:
        return Prepared(plan=plan, swept=(), lake_ids=frozenset(), lake_cut=lake_cut)
    rows = lake.execute(CHANGED_IN_LAKE, {"pod": pod, "cut": plan.since_cut}).fetchall()
    with psycopg.connect(dsn, autocommit=True) as connection:
        swept = _swept(connection, plan)
        registered_at, came = _one(connection, CAME, {"cut": plan.since_cut})
    if came and registered_at is not None:
        bound = {"pod": pod, "since": registered_at - CLOCKS_APART, "came": came}
        rows += lake.execute(CHANGED_ELSEWHERE, bound).fetchall()
    return Prepared(plan=plan, swept=swept, lake_ids=frozenset(row[0] for row in rows), lake_cut=lake_cut)


def _swept(connection: psycopg.Connection[Any], plan: SweepPlan) -> tuple[KeyRange, ...]:
    """Return the ranges that were compared longest ago and together hold the planned share of the orders."""

    def size(keys: KeyRange) -> int:
        return int(_one(connection, ORDER_COUNT, vars(keys))[0])

    def end(keys: KeyRange, number: int) -> str | None:
        found = connection.execute(RANGE_END, {**vars(keys), "number": number - 1}).fetchone()
        return str(found[0]) if found else None

    orders = int(_one(connection, ORDERS, {})[0])
    return taken(plan.parts, max(math.ceil(orders * plan.share), 1), size, end)


def _one(connection: psycopg.Connection[Any], query: str, bound: dict[str, Any]) -> tuple[Any, ...]:
    row = connection.execute(query, bound).fetchone()
    assert row is not None
    return tuple(row)


def of_lake(prepared: Prepared) -> PodScope:
    """Return the scope of a run that does not read the pod."""
    return PodScope(aggregates=scope_of(prepared.plan, prepared.swept, prepared.lake_ids, prepared.lake_cut))


def at_the_cut(prepared: Prepared, connection: psycopg.Connection[Any], cut: int, epoch: str) -> PodScope | None:
    """Return the scope of a run at a cut, from a connection inside its snapshot; None: compare everything.

    Everything is compared when the pod does not have the last comparison's cut, or has it in another epoch.
    """
    plan = prepared.plan
    base = connection.execute(BASE, {"cut": plan.since_cut}).fetchone()
    if plan.since_cut >= cut or base is None or base[1] != epoch:
        return None
    ids = prepared.lake_ids
    if plan.has_changes:
        ids |= {row[0] for row in connection.execute(CHANGED, {"xmax": base[2], "xip": base[3]})}
    aggregates = _with_named(connection, scope_of(plan, prepared.swept, ids, cut))
    return PodScope(aggregates=aggregates, **_of_log(connection, plan, cut))


def _with_named(connection: psycopg.Connection[Any], scope: Scope) -> Scope:
    """Return the scope with the orders and payments that its payments and refunds name."""
    refund, bound = postgres_condition(scope, ["refund_id"])
    payment, _ = postgres_condition(scope, ["oltp.payments.payment_id"])
    rows = psycopg.RawCursor(connection).execute(NAMED.format(refund=refund, payment=payment), bound).fetchall()
    ids = scope.ids | {row[0] for row in rows if not scope.covers(row[0])}
    return replace(scope, ids=ids, id_count=len(ids))


def _of_log(connection: psycopg.Connection[Any], plan: SweepPlan, cut: int) -> dict[str, Any]:
    """Return the fields `cuts` and `log` of the scope: the cuts since the last comparison, and the swept ranges."""
    if plan.whole_pairs:
        return {"cuts": ((0, cut),), "log": None}
    lowest = _one(connection, LOWEST_CUT, {})[0]
    first = int(lowest or 1) - 1

    def bounds(keys: KeyRange) -> tuple[int, int]:
        return max(int(keys.above or 0), first), min(int(keys.through or cut), cut)

    def size(keys: KeyRange) -> int:
        after, through = bounds(keys)
        return max(through - after, 0)

    def end(keys: KeyRange, number: int) -> str | None:
        return cut_text(bounds(keys)[0] + number) if size(keys) > number else None

    seen = tuple(
        KeyRange(above=cut_text(after), through=cut_text(min(through, cut))) for after, through in plan.seen_cuts
    )
    if named := () if plan.has_changes else tuple(merged(list(map(bounds, seen)))):
        log = Scope(since_cut=plan.since_cut, through_cut=cut, has_changes=False, ranges=seen, unit=ScopeUnit.CUT)
        return {"cuts": named, "log": log}
    ranges = (*taken(plan.cut_parts, max(math.ceil((cut - first) * plan.share), 1), size, end), *seen)
    log = Scope(since_cut=plan.since_cut, through_cut=cut, ranges=ranges, unit=ScopeUnit.CUT)
    return {"cuts": tuple(merged([(plan.since_cut, cut), *map(bounds, ranges)])), "log": log}


def lacks_nothing(dsn: str, *, cut: int, reached: int, ids: Collection[str]) -> bool:
    """Return whether none of these aggregates has an event that a copy at cut `reached` lacks: then it is as it will be
    at the later `cut`, for them. False when that cannot be told, as cuts are pruned or of two epochs.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        base = connection.execute(REACHED, {"reached": reached, "cut": cut}).fetchone()
        if base is None:
            return False
        return not _one(connection, HAS_LATER, {"xmax": base[0], "xip": base[1], "ids": sorted(ids)})[0]


def write_ids(connection: duckdb.DuckDBPyConnection, pod: str, ids: Collection[str]) -> None:
    """Write the ids of a pod's scope into the scratch table that `restricted` reads."""
    connection.execute(
        f"create or replace table {_ids(pod)} as select unnest($ids::VARCHAR[]) as id", {"ids": sorted(ids)}
    )


def _ids(pod: str) -> str:
    return table(f"scope_ids_{pod}")


def restricted(pod: str, scope: Scope | None, relation: str, column: str) -> str:
    """Return the rows of a DuckDB relation whose aggregate (its id is `column`) is in the scope, as a relation.

    The query has two branches, because in each of them a scan can skip row groups by its condition.
    """
    if scope is None:
        return relation
    ranges = " or ".join(_range_condition(f"s.{column}", one) for one in scope.ranges) or "false"
    join = f"from {relation} as s {{}} join {_ids(pod)} as i on i.id = s.{column}"
    return f"(select s.* {join.format('semi')} union all select s.* {join.format('anti')} where ({ranges}))"


def _range_condition(column: str, keys: KeyRange) -> str:
    # Not bound, because the condition is a part of many statements. The ends of ranges are ids; we check their format.
    for end in (keys.above, keys.through):
        if end is not None and not UUID.fullmatch(end):
            raise ValueError(f"{end!r} is not an id")
    conditions = [f"{column} > '{keys.above}'"] if keys.above is not None else []
    conditions += [f"{column} <= '{keys.through}'"] if keys.through is not None else []
    condition = " and ".join(conditions) or "true"
    # Rows without an aggregate id belong to the first range.
    return f"({condition})" if keys.above is not None else f"({column} is null or {condition})"


def postgres_condition(
    scope: Scope, columns: Collection[str], kind: str = "uuid", first: int = 1
) -> tuple[str, tuple[str, ...]]:
    """Return the PostgreSQL condition that one of these columns is in the scope, and its bound values.

    `kind` is the type of all the columns, uuid or text. Parameters are numbered from `first` on.
    """
    is_uuid = kind == "uuid"
    ids = sorted(one for one in scope.ids if not is_uuid or UUID.fullmatch(one))
    bound, ranges = [SEPARATOR.join(ids)], []
    for keys in scope.ranges:
        ends = []
        for end, sign in ((keys.above, ">"), (keys.through, "<=")):
            if end is not None:
                bound.append(end)
                ends.append(f"{{column}} {sign} ${first + len(bound) - 1}::{kind}")
        ranges.append(" and ".join(ends) or "true")
    conditions = [f"{{column}} = any(string_to_array(${first}, chr(31))::{kind}[])", *ranges]
    # Ranges are ordered by bytes, so we do not use the database's own collation.
    ordered = columns if is_uuid else [f'{column} collate "C"' for column in columns]
    return f"({' or '.join(one.format(column=c) for c in ordered for one in conditions)})", tuple(bound)
