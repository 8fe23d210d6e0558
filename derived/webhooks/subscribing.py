"""Of which cuts an endpoint is told which events: a change of an endpoint takes effect from a cut on, and stays known.

A change that was made before a step begins holds for every cut that no partition has begun by then. So an event that is
committed after the change is treated as the change says, and the comparison can compute from cuts alone what must have
been told.

Belongs here: beginning and ending subscriptions. Does not belong here: the endpoints (`api/webhooks/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.webhooks import public_type

# Those whose subscription is not what their endpoint wants.
_CHANGED = """
select e.endpoint_id, e.merchant_id, e.version, e.event_types,
       e.is_enabled and e.deleted_at is null and s.full_at is null as is_wanted,
       case when e.deleted_at is not null then 'deleted' when not e.is_enabled then 'disabled'
            when s.full_at is not null then 'full' else 'changed' end as why,
       present.subscription_id, present.from_cut, present.event_types,
       exists (select from webhooks.subscriptions as earlier
               where earlier.endpoint_id = e.endpoint_id and earlier.pod = %(pod)s) as is_known
from webhooks.endpoints as e
left join webhooks.standings as s on s.endpoint_id = e.endpoint_id
left join webhooks.subscriptions as present
    on present.endpoint_id = e.endpoint_id and present.pod = %(pod)s and present.until_cut is null
where (e.is_enabled and e.deleted_at is null and s.full_at is null) <> (present.subscription_id is not null)
   or present.endpoint_version <> e.version
"""
_CONFIRM = "update webhooks.subscriptions set endpoint_version = %s where subscription_id = %s"
_END = "update webhooks.subscriptions set until_cut = %s, ended_because = %s where subscription_id = %s"
_NEVER = "delete from webhooks.subscriptions where subscription_id = %s"
_BEGIN = """
insert into webhooks.subscriptions (endpoint_id, merchant_id, pod, from_cut, event_types, endpoint_version, reason)
values (%s, %s, %s, %s, %s, %s, %s)
"""
_FOR_CUTS = """
select s.endpoint_id, s.merchant_id, s.from_cut, s.until_cut, s.event_types from webhooks.subscriptions as s
inner join webhooks.endpoints as e on e.endpoint_id = s.endpoint_id and e.deleted_at is null
where s.pod = %s and s.from_cut <= %s and (s.until_cut is null or s.until_cut >= %s)
"""


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """An endpoint is told these types of events of these cuts of a pod."""

    endpoint_id: str
    merchant_id: str
    from_cut: int
    until_cut: int | None
    event_types: frozenset[str]

    def has(self, cut: int, event_type: str) -> bool:
        """Return whether an event of this type in this cut is told."""
        is_in = self.from_cut <= cut and (self.until_cut is None or cut <= self.until_cut)
        return is_in and public_type(event_type) in self.event_types


def adopt(cursor: psycopg.Cursor[tuple[Any, ...]], pod: str, begun: int) -> None:
    """Let what was changed at endpoints hold for all cuts after `begun`, the last that a partition has begun."""
    for row in cursor.execute(_CHANGED, {"pod": pod}).fetchall():
        endpoint_id, merchant_id, version, types, is_wanted, why, present, from_cut, present_types, is_known = row
        if present is not None:
            if is_wanted and sorted(types) == sorted(present_types):
                cursor.execute(_CONFIRM, (version, present))
                continue
            if from_cut > begun:
                cursor.execute(_NEVER, (present,))
            else:
                cursor.execute(_END, (begun, why, present))
        if is_wanted:
            reason = "changed" if present is not None else "room" if is_known else "registered"
            cursor.execute(_BEGIN, (endpoint_id, merchant_id, pod, begun + 1, types, version, reason))


def subscriptions_for(
    cursor: psycopg.Cursor[tuple[Any, ...]], pod: str, first_cut: int, last_cut: int
) -> list[Subscription]:
    """Return the subscriptions that concern one of these cuts."""
    names = ("endpoint_id", "merchant_id", "from_cut", "until_cut")
    return [
        Subscription(**dict(zip(names, row, strict=False)), event_types=frozenset(row[4]))
        for row in cursor.execute(_FOR_CUTS, (pod, last_cut, first_cut)).fetchall()
    ]
