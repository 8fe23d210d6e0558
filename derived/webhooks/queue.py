"""What waits for the endpoints of one pod: what is due next, and what became of each attempt.

Of an aggregate only its oldest waiting delivery is ever due, so its events reach an endpoint in their order. Of one
endpoint the oldest `LOOKED_AT` waiting deliveries are looked at, of all endpoints some at a time: how much waits for
one costs the others nothing.

Belongs here: statements on deliveries and standings. Does not belong here: sending (`derived/webhooks/sending.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg

LOOKED_AT = 200
ENDPOINTS_AT_ONCE = 100
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 3_600.0
ROOM_SHARE = 0.8
"""An endpoint that was full is told of new events again once so much of what may wait is left."""
GONE = 410
REASON_CHARACTERS_MAX = 300

_SOME = """
select e.endpoint_id from webhooks.endpoints as e
left join webhooks.standings as s on s.endpoint_id = e.endpoint_id
where e.is_enabled and e.deleted_at is null and s.parked_at is null and e.endpoint_id > %(after)s
  and exists (select from webhooks.deliveries as d
              where d.endpoint_id = e.endpoint_id and d.pod = %(pod)s and d.state = 'waiting')
order by e.endpoint_id limit %(most)s
"""
_DUE = """
select e.endpoint_id, e.url, e.secret_number, e.earlier_until, head.event_id, head.attempts
from webhooks.endpoints as e
cross join lateral (
    select distinct on (oldest.aggregate_type, oldest.aggregate_id) oldest.* from (
        select event_id, aggregate_type, aggregate_id, cut, position, attempts, next_attempt_at
        from webhooks.deliveries as d
        where d.endpoint_id = e.endpoint_id and d.pod = %(pod)s and d.state = 'waiting'
        order by cut, position limit %(looked_at)s
    ) as oldest
    order by oldest.aggregate_type, oldest.aggregate_id, oldest.cut, oldest.position
) as head
where e.endpoint_id = any(%(endpoints)s) and (head.next_attempt_at is null or head.next_attempt_at <= %(now)s)
order by e.endpoint_id, head.cut, head.position
"""
_BODY = "select body from webhooks.deliveries where endpoint_id = %s and event_id = %s and state = 'waiting'"
_ACKNOWLEDGE = """
update webhooks.deliveries
set state = 'acknowledged', acknowledged_at = %(now)s, last_status = %(status)s, attempts = attempts + 1, body = null,
    next_attempt_at = null
where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s and state = 'waiting'
"""
_NOTE_SUCCESS = """
insert into webhooks.standings (endpoint_id, acknowledged_at) values (%(endpoint_id)s, %(now)s)
on conflict (endpoint_id) do update set acknowledged_at = excluded.acknowledged_at
"""
_FAIL = """
update webhooks.deliveries
set attempts = attempts + 1, last_status = %(status)s, next_attempt_at = %(next)s,
    first_failed_at = coalesce(first_failed_at, %(now)s)
where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s and state = 'waiting'
returning first_failed_at
"""
_NOTE_FAILURE = """
insert into webhooks.standings (endpoint_id, failed_at, failed_because) values (%(endpoint_id)s, %(now)s, %(reason)s)
on conflict (endpoint_id) do update set failed_at = excluded.failed_at, failed_because = excluded.failed_because
"""
_PARK = """
update webhooks.standings set parked_at = %(now)s, parked_because = %(reason)s
where endpoint_id = %(endpoint_id)s and parked_at is null
"""
# Counted up to the limit only; an endpoint is full over all pods.
_ROOM = """
select e.endpoint_id, s.full_at is not null,
       (select count(*) from (select from webhooks.deliveries as d
                              where d.endpoint_id = e.endpoint_id and d.state = 'waiting' limit %(most)s) as counted)
from webhooks.endpoints as e
left join webhooks.standings as s on s.endpoint_id = e.endpoint_id
where e.deleted_at is null
"""
_FULL = """
insert into webhooks.standings (endpoint_id, full_at) values (%s, %s)
on conflict (endpoint_id) do update set full_at = excluded.full_at
"""
_REMOVE_DELETED = """
delete from webhooks.deliveries where (endpoint_id, event_id) in (
    select d.endpoint_id, d.event_id from webhooks.deliveries as d
    inner join webhooks.endpoints as e on e.endpoint_id = d.endpoint_id
    where e.deleted_at is not null limit %s)
"""
# Of each endpoint only what lies before its oldest waiting delivery: that one is compared until it was taken.
_NOTE_PRUNED = """
insert into webhooks.kept (endpoint_id, pod, pruned_cut)
select d.endpoint_id, d.pod, max(d.cut) from webhooks.deliveries as d
left join (
    select endpoint_id, min(cut) as cut from webhooks.deliveries
    where pod = %(pod)s and state = 'waiting' group by endpoint_id
) as oldest on oldest.endpoint_id = d.endpoint_id
where d.pod = %(pod)s and d.state <> 'waiting' and coalesce(d.acknowledged_at, d.recorded_at) < %(before)s
  and d.cut <= %(proven_cut)s and (oldest.cut is null or d.cut < oldest.cut)
group by d.endpoint_id, d.pod
on conflict (endpoint_id, pod) do update set pruned_cut = greatest(kept.pruned_cut, excluded.pruned_cut)
"""
_PRUNE = """
delete from webhooks.deliveries as d using webhooks.kept as k
where k.endpoint_id = d.endpoint_id and k.pod = d.pod and d.pod = %(pod)s and d.cut <= k.pruned_cut
  and d.state not in ('waiting', 'skipped') and coalesce(d.acknowledged_at, d.recorded_at) < %(before)s
"""
_FORGET_REQUESTS = "delete from webhooks.requests where made_at < %s"
REQUESTS_KEPT = timedelta(days=30)
"""So long a request with the same idempotency key is answered as before."""
REMOVED_AT_ONCE = 5_000


class Due(NamedTuple):
    """A delivery that is due, with what sending it needs."""

    endpoint_id: str
    url: str
    secret_number: int
    earlier_until: datetime | None
    event_id: str
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What waits for the endpoints of one pod. Used by one thread."""

    connection: psycopg.Connection[Any]
    """In autocommit mode."""
    pod: str
    give_up: timedelta
    chance: random.Random

    def due(self, after: str, now: datetime) -> tuple[list[Due], str]:
        """Return what is due at some endpoints, those after an id, and the last of these; no id: they were the last."""
        wanted = {"after": after, "pod": self.pod, "most": ENDPOINTS_AT_ONCE}
        some = [row[0] for row in self.connection.execute(_SOME, wanted).fetchall()]
        if not some:
            return [], ""
        values = {"endpoints": some, "pod": self.pod, "looked_at": LOOKED_AT, "now": now}
        found = [Due._make(row) for row in self.connection.execute(_DUE, values).fetchall()]
        return found, some[-1] if len(some) == ENDPOINTS_AT_ONCE else ""

    def body(self, due: Due) -> bytes | None:
        """Return a message; None when it does not wait any more."""
        row = self.connection.execute(_BODY, (due.endpoint_id, due.event_id)).fetchone()
        return None if row is None else bytes(row[0])

    def acknowledged(self, due: Due, status: int, now: datetime) -> None:
        """Note that an endpoint has a message."""
        values = {"endpoint_id": due.endpoint_id, "event_id": due.event_id, "status": status, "now": now}
        with self.connection.transaction():
            self.connection.execute(_ACKNOWLEDGE, values)
            self.connection.execute(_NOTE_SUCCESS, values)

    def failed(self, due: Due, status: int | None, reason: str, now: datetime) -> bool:
        """Note that an attempt failed, and when the next one is; park the endpoint when it has failed for too long.

        Returns whether it is parked now.
        """
        pause = pause_seconds(due.attempts + 1, self.chance)
        values = {
            "endpoint_id": due.endpoint_id,
            "event_id": due.event_id,
            "status": status,
            "now": now,
            "next": now + timedelta(seconds=pause),
            "reason": reason[:REASON_CHARACTERS_MAX],
        }
        with self.connection.transaction():
            row = self.connection.execute(_FAIL, values).fetchone()
            self.connection.execute(_NOTE_FAILURE, values)
            if row is None or (status != GONE and now - row[0] < self.give_up):
                return False
            since = f"since {row[0]:%F %T} UTC event {due.event_id} was not taken: {reason}"
            values["reason"] = since[:REASON_CHARACTERS_MAX]
            return self.connection.execute(_PARK, values).rowcount > 0

    def look_at_room(self, waiting_max: int, now: datetime) -> None:
        """Note which endpoints are full, and which have room again; this takes effect with the next step of the log."""
        for endpoint_id, is_full, waiting in self.connection.execute(_ROOM, {"most": waiting_max}).fetchall():
            if not is_full and waiting >= waiting_max:
                self.connection.execute(_FULL, (endpoint_id, now))
            elif is_full and waiting < waiting_max * ROOM_SHARE:
                self.connection.execute(_FULL, (endpoint_id, None))

    def remove_deleted(self) -> int:
        """Remove deliveries of deleted endpoints, some at a time; return their number."""
        return self.connection.execute(_REMOVE_DELETED, (REMOVED_AT_ONCE,)).rowcount

    def prune(self, keep: timedelta, proven_cut: int, now: datetime) -> int:
        """Remove what was acknowledged long ago, of cuts that a comparison has proven; return how many.

        Also removes the answers to old requests.
        """
        values: dict[str, Any] = {"pod": self.pod, "before": now - keep, "proven_cut": proven_cut}
        with self.connection.transaction():
            self.connection.execute(_FORGET_REQUESTS, [now - REQUESTS_KEPT])
            self.connection.execute(_NOTE_PRUNED, values)
            return self.connection.execute(_PRUNE, values).rowcount


def pause_seconds(attempts: int, chance: random.Random) -> float:
    """Return how long to wait after so many failed attempts: twice as long each time, and by chance up to half less."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempts - 1, 20))
    return longest * (1.0 - chance.random() / 2)


def waiting_of(rows: Sequence[Due]) -> dict[str, list[Due]]:
    """Return endpoint -> what is due at it, in order."""
    found: dict[str, list[Due]] = {}
    for row in rows:
        found.setdefault(row.endpoint_id, []).append(row)
    return found
