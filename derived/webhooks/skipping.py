"""Skips one message that an endpoint can never take: a person decides it, with a reason, and it stays known.

Of an aggregate only the oldest waiting message is ever sent, so one that is always refused holds up those after it,
and in the end parks its endpoint. A skipped message counts as noted and not as told: the endpoint's standing names it
for ever, and a replay tells it after all.

The decision is kept apart from the note, in `webhooks.skips`: a note that was lost, and is noted again by whomever, is
skipped again in the same transaction.

Belongs here: looking at one message, skipping it, and keeping it skipped. Does not belong here: who may do so, letting
the endpoint go on afterwards (`api/webhooks/store.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.limits import NOTE
from contracts.webhooks import SKIPPED, WAITING

_LOOK = """
select d.endpoint_id, d.event_id, d.pod, d.cut, d.event_type, d.aggregate_type, d.aggregate_id, d.recorded_at, d.state,
       d.attempts, d.first_failed_at, d.last_status, d.skipped_at, d.skipped_by, d.skipped_because,
       s.parked_at is not null as is_parked
from webhooks.deliveries as d
inner join webhooks.endpoints as e on e.endpoint_id = d.endpoint_id and e.deleted_at is null
left join webhooks.standings as s on s.endpoint_id = d.endpoint_id
where d.endpoint_id = %s and d.event_id = %s
"""
_SKIP = """
update webhooks.deliveries
set state = 'skipped', body = null, next_attempt_at = null, skipped_at = %(now)s, skipped_by = %(by)s,
    skipped_because = %(reason)s
where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s and state = 'waiting'
"""
_DECIDE = """
insert into webhooks.skips (
    endpoint_id, event_id, pod, cut, event_type, aggregate_type, aggregate_id, skipped_at, skipped_by, skipped_because
)
select endpoint_id, event_id, pod, cut, event_type, aggregate_type, aggregate_id, skipped_at, skipped_by,
       skipped_because
from webhooks.deliveries where endpoint_id = %s and event_id = %s and state = 'skipped'
on conflict do nothing
"""
_KEEP = """
update webhooks.deliveries as d
set state = 'skipped', body = null, next_attempt_at = null, skipped_at = s.skipped_at, skipped_by = s.skipped_by,
    skipped_because = s.skipped_because
from unnest(%s::text[], %s::text[]) as noted (endpoint_id, event_id)
inner join webhooks.skips as s
    on s.endpoint_id = noted.endpoint_id and s.event_id = noted.event_id and s.ended_at is null
where d.endpoint_id = s.endpoint_id and d.event_id = s.event_id and d.state = 'waiting'
"""
_END = """
update webhooks.skips as s set ended_at = clock_timestamp()
from unnest(%s::text[], %s::text[]) as told (endpoint_id, event_id)
where s.endpoint_id = told.endpoint_id and s.event_id = told.event_id and s.ended_at is null
"""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of an endpoint."""

    endpoint_id: str
    event_id: str
    """Its Webhook-Id."""
    pod: str
    cut: int
    event_type: str
    aggregate_type: str
    aggregate_id: str
    recorded_at: datetime
    state: str
    attempts: int
    first_failed_at: datetime | None
    last_status: int | None
    """What the endpoint answered last; None: nothing."""
    skipped_at: datetime | None
    skipped_by: str
    skipped_because: str
    is_parked: bool
    """Whether its endpoint is parked."""


def look(control_dsn: str, endpoint_id: str, event_id: str) -> Message:
    """Return a message that may be skipped, or that is; NotFoundError, ConflictError."""
    with psycopg.connect(control_dsn) as connection:
        return _checked(connection, endpoint_id, event_id)


def skip(control_dsn: str, endpoint_id: str, event_id: str, *, by: str, reason: str, now: datetime) -> Message:
    """Skip a message and return it; one that is skipped stays as it is. NotFoundError, ConflictError, InputError."""
    if not reason.strip() or (problem := NOTE.problem(reason)):
        raise InputError(f"The reason {problem if reason.strip() else 'is missing'}.")
    with psycopg.connect(control_dsn) as connection:
        found = _checked(connection, endpoint_id, event_id, " for update of d")
        if found.state == SKIPPED:
            return found
        values = {"endpoint_id": endpoint_id, "event_id": event_id, "now": now, "by": by, "reason": reason}
        connection.execute(_SKIP, values)
        connection.execute(_DECIDE, (endpoint_id, event_id))
        return _found(connection, (endpoint_id, event_id))


def keep_skipped(cursor: psycopg.Cursor[Any], notes: Sequence[Sequence[Any]]) -> None:
    """Skip what a person has skipped of these notes (endpoint, event, ...), which the same transaction has written."""
    cursor.execute(_KEEP, ([note[0] for note in notes], [note[1] for note in notes]))


def end_skips(cursor: psycopg.Cursor[Any], notes: Sequence[Sequence[Any]]) -> None:
    """End the decisions to skip these notes (endpoint, event, ...), because they are told after all."""
    cursor.execute(_END, ([note[0] for note in notes], [note[1] for note in notes]))


def _checked(connection: psycopg.Connection[Any], endpoint_id: str, event_id: str, lock: str = "") -> Message:
    found = _found(connection, (endpoint_id, event_id), lock)
    if found.state == SKIPPED:
        return found
    if found.state != WAITING:
        raise ConflictError(f"Message {event_id!r} is {found.state}; only one that waits can be skipped.")
    if not found.is_parked or not found.attempts:
        why = "was never tried" if found.is_parked else "waits for an endpoint that is not parked"
        raise ConflictError(f"Message {event_id!r} {why}, so it may still be taken; it is not skipped.")
    return found


def _found(connection: psycopg.Connection[Any], key: Sequence[str], lock: str = "") -> Message:
    with connection.cursor(row_factory=class_row(Message)) as cursor:
        row = cursor.execute((_LOOK + lock).encode(), key).fetchone()
    if row is None:
        raise NotFoundError(f"There is no message {key[1]!r} for endpoint {key[0]!r}.")
    return row
