"""The way of the payment provider's notifications: stored, tried at once, tried again, and decided by a person.

Belongs here: when a notification is stored and tried. Does not belong here: its signature
(`api/provider_signatures.py`), what it changes (`oltp/commands/apply_notification.py`), when the worker runs
(`orchestration/reservations.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from contracts.errors import ConflictError, InputError, NotFoundError, TieoutError
from contracts.limits import NOTE
from contracts.text import visible
from oltp.commands.apply_notification import ApplyNotification
from oltp.commands.execute import CommandPod, run_request
from oltp.commands.requests import request_of
from oltp.domain.notifications import Notification, NotificationState, Settlement, require_storable
from oltp.store import notifications as stored
from oltp.store.notifications import Stored
from oltp.transaction import Row

RETRY_AFTER = timedelta(seconds=20)
"""A notification that waits is not tried again sooner."""
KEPT_FOR = timedelta(days=90)
"""How long a notification that has ended is kept. One that comes again later is compared with the books once more."""
PRUNED_AT_ONCE = 10_000

OPEN = (NotificationState.PENDING, NotificationState.PARKED)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What became of the notifications that waited: how many have ended, and the error of each other by its id."""

    ended: int
    failures: dict[str, str]


def store_notification(
    connection: psycopg.Connection[Row], provider: str, notification: Notification, body: str
) -> bool:
    """Store a notification before anything is done with it; return False when it was stored earlier."""
    require_storable(notification)
    if "\x00" in body:
        raise InputError("The notification holds the character U+0000.")
    return stored.insert(connection, provider, notification, body)


def apply_notification(pod: CommandPod, provider: str, event_id: str, merchant_id: str) -> Settlement:
    """Apply a stored notification, whatever became of it before; one that has ended changes nothing."""
    command = ApplyNotification(merchant_id=merchant_id, provider=provider, event_id=event_id)
    return run_request(pod, command, request_of(pod, command, idempotency_key="notification"))


def apply_waiting(pod: CommandPod, *, retry_after: timedelta = RETRY_AFTER, limit: int = 100) -> Tried:
    """Try the notifications that wait, those that were tried longest ago first, at most `limit`."""
    with pod.connections.connection() as connection:
        found = stored.waiting(connection, retry_after, limit)
    ended, failures = 0, {}
    for one in found:
        try:
            settlement = apply_notification(pod, one.provider, one.event_id, one.merchant_id)
        except (TieoutError, psycopg.DatabaseError) as error:
            # One that cannot be applied stops only itself.
            reason = visible(str(error).strip().partition("\n")[0])[: NOTE.longest]
            failures[f"{one.provider}/{one.event_id}"] = reason
            with pod.connections.connection() as connection:
                stored.note_failure(connection, one, reason)
        else:
            ended += settlement.state is not NotificationState.PENDING
    return Tried(ended=ended, failures=failures)


def open_notifications(dsn: str, *, event_id: str | None = None, limit: int = 100) -> list[Stored]:
    """Return a pod's notifications that wait or are parked, the oldest first; with an id: that one in any state."""
    states = list(OPEN if event_id is None else NotificationState)
    with psycopg.connect(dsn, autocommit=True) as connection:
        return stored.listed(connection, [str(state) for state in states], event_id=event_id, limit=limit)


def notification_counts(dsn: str) -> tuple[int, float, int]:
    """Return how many of a pod's notifications wait, the age of the oldest in seconds, and how many are parked."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return stored.counts(connection)


def decide(pod: CommandPod, one: Stored, *, is_dismissed: bool, reason: str, decided_by: str) -> None:
    """Let a parked notification wait again, or dismiss it, as a person decided; ConflictError when it is not parked."""
    after = NotificationState.DISMISSED if is_dismissed else NotificationState.PENDING
    with pod.connections.connection() as connection:
        if not stored.decide(connection, one, after, reason, decided_by):
            raise ConflictError(f"Notification {one.event_id} is {one.state}, not parked: there is nothing to decide.")


def find_notification(pods: Sequence[tuple[str, str]], event_id: str) -> tuple[str, Stored]:
    """Return (pod, notification) by the provider's id; `pods`: names with the DSN of each reader. NotFoundError."""
    for pod, dsn in pods:
        for one in open_notifications(dsn, event_id=event_id):
            return pod, one
    raise NotFoundError(f"No pod has a notification {event_id!r} of the payment provider.")


def prune_notifications(relay_dsn: str, *, kept_for: timedelta = KEPT_FOR, at_once: int = PRUNED_AT_ONCE) -> int:
    """Remove ended notifications that are older than `kept_for`, `at_once` per transaction; return how many."""
    removed = 0
    with psycopg.connect(relay_dsn, autocommit=True) as connection:
        while True:
            done = stored.prune(connection, kept_for, at_once)
            removed += done
            if done < at_once:
                return removed
