"""Which breaks that stand have had something happen to what they may depend on since they were compared last.

What happened is told by three records: an upstream break has ended, a witness saw a write, a repair changed something.
Each names a pod, and a merchant or an aggregate if it can. Times are compared with a margin: what is named once too
often is compared once more, and nothing else. A break that a repair may still claim is left to it for OPEN_SECONDS: the
repair compares it again itself, and a build for it would only be in its way.

Belongs here: this read, of the newest LOOKED_AT of each. Does not belong here: comparing again, and how often
(`stack/upkeep/again.py`); what pods and warehouse tell themselves (the same).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

LOOKED_AT = 1_000
"""At most this many breaks, and records of each kind: one of them is enough for a comparison of all suspects."""

OPEN_SECONDS = 60.0

# A break of a sum names a merchant or nothing, a sighting an aggregate or nothing, an action what its causes name.
AWAITING = """
with asked as (select * from unnest(%(pods)s::text[], %(since)s::timestamptz[]) as asked (pod, since)),
waiting as (
    select b.pair, b.pod, b.merchant_id, b.aggregate_key, asked.since,
           substr(b.aggregate_key, length(split_part(b.aggregate_key, '/', 1))
               + length(split_part(b.aggregate_key, '/', 2)) + 3) as aggregate_id
    from trust.breaks as b join asked on asked.pod = b.pod
    where b.ended_at is null and b.pair = any(%(pairs)s) and (
        b.state = 'escalated'
        or b.state = 'open' and b.first_seen_at < %(now)s::timestamptz - make_interval(secs => %(open_seconds)s)
    )
    order by b.break_id desc limit %(looked_at)s
),
mended as (
    select u.pod, u.merchant_id, null::text as aggregate_id, u.ended_at as at
    from trust.breaks as u
    where u.ended_at > (select min(since) from waiting) and u.pair <> all(%(pairs)s)
      and not exists (
          select from trust.break_history as h
          where h.break_id = u.break_id and h.to_state = u.state and h.run = %(own_run)s
      )
    order by u.ended_at desc limit %(looked_at)s
),
written as (
    select s.pod, null::text as merchant_id, s.aggregate_id, s.seen_at as at
    from reconcile.sightings as s
    where s.seen_at > (select min(since) from waiting) and (s.copy is null or s.copy = any(%(copies)s))
    order by s.seen_at desc limit %(looked_at)s
),
acted as (
    select a.pod, a.causes, a.ended_at from trust.repair_actions as a
    where a.started_at > (select min(since) from waiting) - %(longest)s::interval
      and a.ended_at > (select min(since) from waiting)
      and a.changed is distinct from 0 and a.store = any(%(copies)s)
    order by a.ended_at desc limit %(looked_at)s
),
done as (
    select pod.pod, cause.merchant_id, null::text as aggregate_id, acted.ended_at as at
    from acted cross join lateral unnest(string_to_array(acted.pod, ',')) as pod (pod)
    left join lateral (
        select distinct c.merchant_id from trust.breaks as c where c.break_id = any(acted.causes)
    ) as cause on true
),
happened as (select * from mended union all select * from written union all select * from done)
select w.pair, w.pod, w.aggregate_key,
       exists (
           select from happened as h
           where h.pod in (w.pod, '') and h.at > w.since
             and coalesce(h.merchant_id = w.merchant_id, true) and coalesce(h.aggregate_id = w.aggregate_id, true)
       ) as has_happened
from waiting as w
"""
LONGEST = "6 hours"
"""No action of a repair takes longer."""


@dataclass(frozen=True, kw_only=True)
class Awaiting:
    """A break of a pair that stands in a pod."""

    pair: str
    pod: str
    aggregate_key: str | None
    has_happened: bool
    """Whether a record tells of something that it may depend on."""


def awaiting(
    connection: psycopg.Connection[Any],
    pairs: Collection[str],
    copies: Collection[str],
    since: Mapping[str, datetime],
    *,
    now: datetime,
    own_run: str = "",
) -> list[Awaiting]:
    """Return the newest breaks of these pairs that are before people, or open for long, in the pods of `since`.

    `since` maps a pod to when its last comparison of these pairs began, `copies` are the stores (besides OLTP) that the
    pairs depend on. What the comparison `own_run` has ended itself is nothing new.
    """
    bound = {
        "pairs": list(pairs),
        "copies": list(copies),
        "pods": list(since),
        "since": list(since.values()),
        "own_run": own_run,
        "now": now,
        "open_seconds": OPEN_SECONDS,
        "longest": LONGEST,
        "looked_at": LOOKED_AT,
    }
    rows = connection.execute(AWAITING, bound).fetchall()
    return [Awaiting(pair=row[0], pod=row[1], aggregate_key=row[2], has_happened=row[3]) for row in rows]
