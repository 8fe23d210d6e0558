"""The provider's notifications in the pod: stored before anything is done with them, each once by the provider's id.

Belongs here: reading and writing their rows. Does not belong here: what they change
(`oltp/commands/apply_notification.py`), when they are tried (`oltp/notifying.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg

from contracts.events.common import Value
from contracts.struct_types import make_known
from contracts.text import visible
from oltp.domain.notifications import (
    BY_HAND,
    DISPUTE_KINDS,
    WAITS_AT_MOST,
    Notification,
    NotificationState,
    Settlement,
    stored_reference,
)
from oltp.domain.provider_calls import ProviderCall
from oltp.transaction import CommandTransaction, Row

make_known(Notification)

_INSERT = """
insert into oltp.provider_notifications (
    provider, event_id, merchant_id, kind, provider_key, authorization_reference, body
)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict do nothing
"""
_INSERT_SAID = """
insert into oltp.provider_notifications (
    provider, event_id, merchant_id, kind, authorization_reference, body, state, reason, decided_by
)
values (%s, %s, %s, %s, %s, %s, 'applied', %s, %s)
"""
_LOCK = """
select body, state, clock_timestamp() - received_at, (
    select directory_epoch from oltp.residents where residents.merchant_id = provider_notifications.merchant_id
)
from oltp.provider_notifications where provider = %s and event_id = %s for update
"""
_SETTLE = """
update oltp.provider_notifications
set state = %s, reason = %s, attempts = attempts + 1, tried_at = clock_timestamp()
where provider = %s and event_id = %s
"""
_FAILED = """
update oltp.provider_notifications
set
    state = case when received_at < clock_timestamp() - %(waits_at_most)s then 'parked' else state end,
    reason = %(reason)s, attempts = attempts + 1, tried_at = clock_timestamp()
where provider = %(provider)s and event_id = %(event_id)s and state = 'pending'
"""
_DECIDE = """
update oltp.provider_notifications set state = %s, reason = %s, decided_by = %s
where provider = %s and event_id = %s and state = 'parked'
"""
_PRUNE = "select oltp.prune_provider_notifications(%s, %s)"
_WAITING = """
select provider, event_id, merchant_id from oltp.provider_notifications
where state = 'pending' and tried_at < clock_timestamp() - %s
order by tried_at, provider, event_id
limit %s
"""
_CALLS = """
select idempotency_key, command, body, kind, provider_key, order_id::text, payment_id::text, refund_id::text, subject,
    amount_minor, currency
from oltp.provider_calls
where merchant_id = %s and (provider_key = %s or (subject = %s and kind in ('void', 'give_up')))
order by asked_at, idempotency_key
for update
"""
_END_UNCLAIMED = """
update oltp.provider_notifications set state = 'applied', reason = %s, tried_at = clock_timestamp()
where merchant_id = %s and authorization_reference = %s and kind = 'authorization.succeeded'
    and state in ('pending', 'parked')
returning event_id
"""
_HAS_APPLIED = """
select exists (
    select from oltp.provider_notifications
    where merchant_id = %s and provider_key = %s and kind = %s and state = 'applied'
)
"""
_LISTED = """
select provider, event_id, merchant_id, kind, provider_key, authorization_reference, state, reason, decided_by,
    attempts, received_at, tried_at, body
from oltp.provider_notifications
where (state = any(%(states)s)) and (%(event_id)s::text is null or event_id = %(event_id)s)
order by received_at, provider, event_id
limit %(limit)s
"""
_ABOUT_DISPUTES = f"""
select provider, event_id, merchant_id, kind, provider_key, authorization_reference, state, reason, decided_by,
    attempts, received_at, tried_at, body
from oltp.provider_notifications
where merchant_id = %s and authorization_reference = %s
    and kind in ({", ".join(f"'{kind}'" for kind in DISPUTE_KINDS)})
order by received_at, provider, event_id
limit %s
"""
_COUNTS = """
select
    count(*) filter (where state = 'pending'),
    coalesce(extract(epoch from clock_timestamp() - min(received_at) filter (where state = 'pending')), 0)::float8,
    count(*) filter (where state = 'parked')
from oltp.provider_notifications where state in ('pending', 'parked')
"""


class Waiting(Value, frozen=True, kw_only=True):
    """The name of a notification that waits."""

    provider: str
    event_id: str
    merchant_id: str


class CallUnderWay(Value, frozen=True, kw_only=True):
    """A call that has no recorded outcome yet, with the command that made it."""

    idempotency_key: str
    command: str
    body: str
    call: ProviderCall


class Stored(Value, frozen=True, kw_only=True):
    """A notification's row, for people."""

    provider: str
    event_id: str
    merchant_id: str
    kind: str
    provider_key: str | None
    authorization_reference: str | None
    state: NotificationState
    reason: str
    decided_by: str | None
    attempts: int
    received_at: datetime
    tried_at: datetime
    body: str


def insert(connection: psycopg.Connection[Row], provider: str, notification: Notification, body: str) -> bool:
    """Store a notification that waits; return False when the provider's id is stored already."""
    cursor = connection.execute(
        _INSERT,
        [
            provider,
            notification.id,
            notification.merchant_id,
            visible(notification.type[:60]),
            stored_reference(notification.idempotency_key),
            stored_reference(notification.authorization_reference),
            body,
        ],
    )
    return cursor.rowcount == 1


def insert_said(tx: CommandTransaction, said: Notification, *, reason: str, by: str) -> None:
    """Store what a person has said instead of the provider, with why and who, as applied."""
    body = msgspec.json.encode(said).decode()
    names = (BY_HAND, said.id, said.merchant_id, said.type, stored_reference(said.authorization_reference))
    tx.query(_INSERT_SAID, [*names, body, reason, by])


def lock(
    tx: CommandTransaction, provider: str, event_id: str
) -> tuple[Notification, NotificationState, timedelta, int | None] | None:
    """Return a notification, locked, with its state, its age, and the directory epoch of its merchant's residence."""
    row = tx.query(_LOCK, [provider, event_id]).fetchone()
    if row is None:
        return None
    return msgspec.json.decode(row[0], type=Notification), NotificationState(row[1]), row[2], row[3]


def settle(tx: CommandTransaction, provider: str, event_id: str, settlement: Settlement) -> None:
    """Write what became of a notification in this attempt."""
    tx.query(_SETTLE, [settlement.state.value, settlement.reason, provider, event_id])


def note_failure(connection: psycopg.Connection[Row], one: Waiting, reason: str) -> None:
    """Write why a notification could not be tried; one that has waited too long is parked with that reason."""
    names = {"provider": one.provider, "event_id": one.event_id}
    connection.execute(_FAILED, {**names, "reason": reason, "waits_at_most": WAITS_AT_MOST})


def decide(connection: psycopg.Connection[Row], one: Stored, state: NotificationState, reason: str, by: str) -> bool:
    """Write what a person decided about a parked notification; return False when it is not parked any more."""
    return connection.execute(_DECIDE, [state.value, reason, by, one.provider, one.event_id]).rowcount == 1


def prune(connection: psycopg.Connection[Row], kept_for: timedelta, at_once: int) -> int:
    """Remove at most `at_once` notifications that have ended and are older; return how many."""
    ((removed,),) = connection.execute(_PRUNE, [kept_for, at_once]).fetchall()
    return int(removed)


def calls_about(tx: CommandTransaction, notification: Notification) -> list[CallUnderWay]:
    """Return the calls under way that a notification may be the answer to, locked: by its key, or a void of its
    authorization.
    """
    about = [notification.merchant_id, notification.idempotency_key, notification.authorization_reference]
    names = ProviderCall.__struct_fields__
    return [
        CallUnderWay(
            idempotency_key=key,
            command=command,
            body=body,
            call=msgspec.convert(dict(zip(names, fields, strict=True)), ProviderCall),
        )
        for key, command, body, *fields in tx.query(_CALLS, about).fetchall()
    ]


def end_unclaimed(tx: CommandTransaction, notification: Notification, reason: str) -> bool:
    """Close the notifications of an authorization that no order claims and that was let go; return whether there were
    any.
    """
    about = [reason, notification.merchant_id, notification.authorization_reference]
    return bool(tx.query(_END_UNCLAIMED, about).fetchall())


def has_applied(tx: CommandTransaction, notification: Notification, kind: str) -> bool:
    """Return whether a notification of another kind about the same call was applied."""
    ((has,),) = tx.query(_HAS_APPLIED, [notification.merchant_id, notification.idempotency_key, kind]).fetchall()
    return bool(has)


def waiting(connection: psycopg.Connection[Row], tried_before: timedelta, limit: int) -> list[Waiting]:
    """Return notifications that wait and were not tried for so long, the longest first."""
    rows = connection.execute(_WAITING, [tried_before, limit]).fetchall()
    return [msgspec.convert(dict(zip(Waiting.__struct_fields__, row, strict=True)), Waiting) for row in rows]


def listed(
    connection: psycopg.Connection[Any], states: list[str], *, event_id: str | None = None, limit: int = 100
) -> list[Stored]:
    """Return notifications in these states, the oldest first; `event_id`: only those with this id."""
    return _stored(connection.execute(_LISTED, {"states": states, "event_id": event_id, "limit": limit}).fetchall())


def about_disputes(
    connection: psycopg.Connection[Any], merchant_id: str, authorization_reference: str, limit: int
) -> list[Stored]:
    """Return what was said of disputes about an authorization, in any state, the oldest first."""
    return _stored(
        connection.execute(_ABOUT_DISPUTES.encode(), (merchant_id, authorization_reference, limit)).fetchall()
    )


def _stored(rows: list[tuple[Any, ...]]) -> list[Stored]:
    names = Stored.__struct_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), Stored) for row in rows]


def counts(connection: psycopg.Connection[Any]) -> tuple[int, float, int]:
    """Return how many wait, the age of the oldest of these in seconds, and how many are parked."""
    ((pending, oldest_seconds, are_parked),) = connection.execute(_COUNTS).fetchall()
    return int(pending), float(oldest_seconds), int(are_parked)
