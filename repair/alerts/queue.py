"""The outbox of alerts in the control database: a message is written once, claimed by one sender, sent at least once.

A message is first stored as a row, then sent. A sender claims a row with a lease. If the sender dies, the lease ends,
and another sender sends the message again. The row keeps which targets have accepted it, so a retry goes only to the
other targets. Rows are never deleted.

Belongs here: the tables `trust.alerts` and `trust.alert_heartbeats`. Does not belong here: which messages are due
(`deciding.py`), sending (`sending.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from repair.alerts.deciding import (
    ATTEMPTS_MAX,
    INCIDENT_KINDS,
    SENDER_SECONDS_MAX,
    Alert,
    AlertKind,
    Heartbeat,
    Withdrawal,
    retry_at,
)
from repair.ledger.schema import ledger

SENDER = "sender"
CLAIM_SECONDS = 60

TABLES = """
create schema if not exists trust;
create table if not exists trust.alerts (
    alert_id bigint generated always as identity primary key,
    kind text not null,
    group_id bigint,
    episode integer not null default 1,
    subject text not null default '',
    title text not null,
    body text not null,
    created_at timestamptz not null,
    next_attempt_at timestamptz not null,
    claimed_until timestamptz,
    attempts integer not null default 0,
    delivered_to text[] not null default '{}',
    sent_at timestamptz,
    withdrawn_at timestamptz,
    error text not null default '',
    check (sent_at is null or withdrawn_at is null)
);
create unique index if not exists alerts_once
    on trust.alerts (kind, coalesce(group_id, 0), episode, subject) where withdrawn_at is null;
create index if not exists alerts_pending on trust.alerts (next_attempt_at)
    where sent_at is null and withdrawn_at is null;
create index if not exists alerts_group on trust.alerts (group_id);
comment on table trust.alerts is 'One row per message to people; sent_at is null until every target took it.';
create table if not exists trust.alert_heartbeats (
    name text primary key,
    ran_at timestamptz,
    delivered_at timestamptz,
    failed_at timestamptz,
    targets integer not null default 0
);
alter table trust.alert_heartbeats add column if not exists up_since timestamptz;
comment on table trust.alert_heartbeats is 'When the sender of alerts last ran, and when a target last took a message.';
"""
COLUMNS = """
    alert_id, kind, group_id, episode, subject, title, body, created_at, next_attempt_at, attempts, delivered_to,
    sent_at, withdrawn_at, error
"""
INSERT = """
insert into trust.alerts (
    kind, group_id, episode, subject, title, body, created_at, next_attempt_at, withdrawn_at, error
)
values (
    %(kind)s, %(group_id)s, %(episode)s, %(subject)s, %(title)s, %(body)s, %(now)s, %(now)s, %(withdrawn_at)s, %(error)s
)
on conflict do nothing
"""
WITHDRAW = """
update trust.alerts set withdrawn_at = %(now)s, error = %(reason)s
where alert_id = %(alert_id)s and sent_at is null and withdrawn_at is null and delivered_to = '{}'
  and (claimed_until is null or claimed_until < %(now)s)
"""
CLAIM = f"""
update trust.alerts set claimed_until = %(until)s, attempts = attempts + 1
where alert_id in (
    select alert_id from trust.alerts
    where sent_at is null and withdrawn_at is null and (claimed_until is null or claimed_until < %(now)s)
      and (%(is_forced)s or (next_attempt_at <= %(now)s and attempts < %(attempts_max)s))
      and alert_id > %(after)s and kind = any(%(kinds)s)
    order by alert_id limit %(limit)s
    for update skip locked
)
returning {COLUMNS}
"""
SETTLE = """
update trust.alerts
set claimed_until = null, delivered_to = %(delivered_to)s, sent_at = %(sent_at)s, error = %(error)s,
    next_attempt_at = %(next_attempt_at)s
where alert_id = %(alert_id)s and sent_at is null
"""
BEAT = """
insert into trust.alert_heartbeats (name, ran_at, delivered_at, failed_at, targets, up_since)
values (%(name)s, %(ran_at)s, %(delivered_at)s, %(failed_at)s, coalesce(%(targets)s, 0), %(ran_at)s)
on conflict (name) do update set
    up_since = case
        when excluded.ran_at <= alert_heartbeats.ran_at + make_interval(secs => %(pause_max)s)
            then coalesce(alert_heartbeats.up_since, excluded.ran_at)
        else coalesce(excluded.ran_at, alert_heartbeats.up_since)
    end,
    ran_at = greatest(excluded.ran_at, alert_heartbeats.ran_at),
    delivered_at = greatest(excluded.delivered_at, alert_heartbeats.delivered_at),
    failed_at = greatest(excluded.failed_at, alert_heartbeats.failed_at),
    targets = coalesce(%(targets)s, alert_heartbeats.targets)
"""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message to write; idempotent: a second one with the same kind, incident, episode and subject is skipped."""

    kind: AlertKind
    title: str
    body: str
    group_id: int | None = None
    episode: int = 1
    subject: str = ""
    not_sent_because: str = ""
    """Why the message is only recorded and not sent, e.g. because there is no target; empty: it is sent."""


def migrate(control_dsn: str) -> None:
    """Create the tables in the control database, if they are not there."""
    # Under the ledger's lock, because two transactions that create the same schema at once can fail.
    with ledger(control_dsn) as connection:
        connection.execute(TABLES)


def write(
    control_dsn: str, messages: Iterable[Message], now: datetime, *, withdrawals: Iterable[Withdrawal] = ()
) -> int:
    """Write messages that were not written before, withdraw those that no target has; return the number written."""
    with psycopg.connect(control_dsn) as connection:
        for withdrawal in withdrawals:
            bound = {"alert_id": withdrawal.alert_id, "reason": withdrawal.reason, "now": now}
            connection.execute(WITHDRAW, bound)
        return write_in(connection, messages, now)


def write_in(connection: psycopg.Connection[Any], messages: Iterable[Message], now: datetime) -> int:
    """Write messages that were not written before, in the caller's transaction; return the number of new ones."""
    return sum(connection.execute(INSERT, _row(message, now)).rowcount for message in messages)


def _row(message: Message, now: datetime) -> dict[str, Any]:
    return {
        "kind": message.kind.value,
        "group_id": message.group_id,
        "episode": message.episode,
        "subject": message.subject,
        "title": message.title,
        "body": message.body,
        "now": now,
        "withdrawn_at": now if message.not_sent_because else None,
        "error": message.not_sent_because,
    }


def record_direct(
    control_dsn: str,
    message: Message,
    *,
    written_at: datetime,
    sent_at: datetime | None,
    delivered_to: Sequence[str],
    connect_seconds: int,
) -> None:
    """Record a message that was sent without this table, because the database might not have answered."""
    query = """
        update trust.alerts set sent_at = %(sent_at)s, delivered_to = %(delivered_to)s
        where kind = %(kind)s and subject = %(subject)s and sent_at is null and withdrawn_at is null
    """
    bound = {"kind": message.kind, "subject": message.subject, "sent_at": sent_at, "delivered_to": list(delivered_to)}
    # In one transaction, so that another sender never sees the message as unsent.
    with psycopg.connect(control_dsn, connect_timeout=connect_seconds) as connection:
        write_in(connection, [message], written_at)
        connection.execute(query, bound)
    if sent_at is not None:
        beat(control_dsn, Heartbeat(delivered_at=sent_at))


def claim(
    control_dsn: str,
    kinds: Iterable[AlertKind],
    now: datetime,
    *,
    limit: int,
    after: int = 0,
    is_forced: bool = False,
) -> list[Alert]:
    """Claim messages of these kinds that are due now and have a higher number than `after`, the oldest first.

    With `is_forced` also those that wait for their next attempt or were given up. The lease is CLAIM_SECONDS: until
    then no other sender gets them.
    """
    bound = {
        "now": now,
        "until": now + timedelta(seconds=CLAIM_SECONDS),
        "attempts_max": ATTEMPTS_MAX,
        "after": after,
        "kinds": [kind.value for kind in kinds],
        "is_forced": is_forced,
        "limit": limit,
    }
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        rows = connection.execute(CLAIM, bound).fetchall()
    return sorted(map(_alert, rows), key=lambda alert: alert.alert_id)


def sent_lately(control_dsn: str, since: datetime) -> int:
    """Return the number of texts about incidents sent since then; messages that were sent together count once."""
    query = """
        select count(distinct (kind, sent_at)) from trust.alerts where sent_at > %s and kind = any(%s)
    """
    kinds = [kind.value for kind in INCIDENT_KINDS]
    with psycopg.connect(control_dsn) as connection:
        row = connection.execute(query, (since, kinds)).fetchone()
    return 0 if row is None else int(row[0])


def release(control_dsn: str, alert_ids: Sequence[int]) -> None:
    """Release claimed messages that were not tried."""
    query = """
        update trust.alerts set claimed_until = null, attempts = attempts - 1
        where alert_id = any(%s) and sent_at is null
    """
    with psycopg.connect(control_dsn) as connection:
        connection.execute(query, (list(alert_ids),))


def settle(
    control_dsn: str, taken: Iterable[tuple[Alert, Sequence[str]]], *, error: str, is_sent: bool, now: datetime
) -> None:
    """Record the result of sending claimed messages: which targets accepted each, and the time of the next retry."""
    rows = [
        {
            "alert_id": alert.alert_id,
            "delivered_to": sorted(set(delivered_to)),
            "sent_at": now if is_sent else None,
            "error": error,
            "next_attempt_at": retry_at(now, alert.attempts),
        }
        for alert, delivered_to in taken
    ]
    with psycopg.connect(control_dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(SETTLE, rows)


def beat(control_dsn: str, heartbeat: Heartbeat) -> None:
    """Update the sender's heartbeat; fields that are None keep their stored value."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute(BEAT, {"name": SENDER, "pause_max": SENDER_SECONDS_MAX, **vars(heartbeat)})


def heartbeat(control_dsn: str) -> Heartbeat:
    """Return the sender's heartbeat; empty when it never ran."""
    query = "select ran_at, delivered_at, failed_at, targets, up_since from trust.alert_heartbeats where name = %s"
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        row = connection.execute(query, (SENDER,)).fetchone()
    return Heartbeat() if row is None else Heartbeat(**row)


def pending_alerts(control_dsn: str) -> list[Alert]:
    """Return the messages that wait to be sent, the oldest first."""
    return _read(control_dsn, "where sent_at is null and withdrawn_at is null order by alert_id", ())


def latest_alerts(control_dsn: str, *, limit: int = 100) -> list[Alert]:
    """Return the newest messages, sent or not, the newest first."""
    return _read(control_dsn, "order by alert_id desc limit %s", (limit,))


def alerts_about(control_dsn: str, group_ids: Sequence[int]) -> list[Alert]:
    """Return every message about these incidents, the oldest first."""
    return _read(control_dsn, "where group_id = any(%s) order by alert_id", (list(group_ids),))


def groups_to_follow(control_dsn: str) -> list[int]:
    """Return the incidents with a message whose last episode has no sent message that it is settled."""
    query = """
        select group_id from trust.alerts
        where group_id is not null and withdrawn_at is null
        group by group_id
        having max(episode) > coalesce(max(episode) filter (where kind = %s and sent_at is not null), 0)
    """
    with psycopg.connect(control_dsn) as connection:
        return [row[0] for row in connection.execute(query, (AlertKind.RESOLVED.value,)).fetchall()]


def last_written_at(control_dsn: str, kind: AlertKind) -> datetime | None:
    """Return when the last message of a kind was written, even if it was only recorded; None: there is none."""
    query = "select max(created_at) from trust.alerts where kind = %s"
    with psycopg.connect(control_dsn) as connection:
        row = connection.execute(query, (kind.value,)).fetchone()
    return None if row is None else row[0]


def told_groups(control_dsn: str, group_ids: Sequence[int]) -> set[int]:
    """Return those of these incidents about which a target has accepted a message."""
    query = """
        select distinct group_id from trust.alerts
        where group_id = any(%s) and kind = any(%s) and (sent_at is not null or delivered_to <> '{}')
    """
    kinds = [kind.value for kind in INCIDENT_KINDS]
    with psycopg.connect(control_dsn) as connection:
        return {row[0] for row in connection.execute(query, (list(group_ids), kinds)).fetchall()}


def _read(control_dsn: str, rest: str, bound: Sequence[object]) -> list[Alert]:
    # `rest` is a constant of the functions above; values are bound.
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        rows = connection.execute(f"select {COLUMNS} from trust.alerts {rest}".encode(), bound).fetchall()
    return [_alert(row) for row in rows]


def _alert(row: dict[str, Any]) -> Alert:
    return Alert(**{**row, "kind": AlertKind(row["kind"]), "delivered_to": tuple(row["delivered_to"])})
