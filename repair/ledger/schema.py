"""The tables of the ledger in the control database, and the lock that serializes its writers.

Belongs here: the tables of breaks and decisions in schema `trust`. Does not belong here: when they are written (the
other modules of this package).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

Connection = psycopg.Connection[dict[str, Any]]

TABLES = """
create schema if not exists trust;
create table if not exists trust.break_groups (
    group_id bigint generated always as identity primary key,
    pair text not null,
    pod text not null,
    kind text not null,
    opened_at timestamptz not null,
    opened_cut bigint,
    opened_run text not null,
    keys bigint not null check (keys >= 0),
    ended_at timestamptz
);
create unique index if not exists break_groups_unended on trust.break_groups (pair, pod, kind) where ended_at is null;
create table if not exists trust.breaks (
    break_id bigint generated always as identity primary key,
    group_id bigint not null references trust.break_groups,
    pair text not null,
    pod text not null,
    entity text not null,
    key text[] not null,
    kind text not null,
    merchant_id text,
    day text,
    currency text,
    columns jsonb not null,
    amounts jsonb not null,
    aggregate_key text,
    state text not null
        check (state in ('open', 'repairing', 'escalated', 'accepted', 'repaired', 'vanished')),
    owner text not null,
    reason text not null,
    first_seen_at timestamptz not null,
    first_seen_cut bigint,
    last_seen_at timestamptz not null,
    last_seen_cut bigint,
    times_seen bigint not null check (times_seen >= 1),
    repairs integer not null check (repairs >= 0),
    claimed_run text,
    claimed_at timestamptz,
    claimed_cut bigint,
    lease_until timestamptz,
    ended_at timestamptz,
    check ((ended_at is null) = (state not in ('repaired', 'vanished'))),
    check (state <> 'repairing' or (claimed_run is not null and lease_until is not null)),
    check (state <> 'accepted' or reason <> '')
);
create or replace function trust.key_digest(key text[]) returns bytea language sql immutable strict parallel safe
return sha256(convert_to(to_jsonb(key)::text, 'UTF8'));
-- By digests: an index holds no value of some thousand characters, and one such key would keep all others out.
create unique index if not exists breaks_unended_by_digest on trust.breaks
    (pair, pod, entity, trust.key_digest(key)) where ended_at is null;
drop index if exists trust.breaks_unended;
create index if not exists breaks_by_group on trust.breaks (group_id);
create index if not exists breaks_by_run on trust.breaks (claimed_run) where claimed_run is not null;
create index if not exists breaks_by_end on trust.breaks (ended_at) where ended_at is not null;
create index if not exists breaks_by_aggregate_hash on trust.breaks using hash (aggregate_key);
drop index if exists trust.breaks_by_aggregate;
create table if not exists trust.break_history (
    history_id bigint generated always as identity primary key,
    break_id bigint not null references trust.breaks,
    at timestamptz not null,
    from_state text,
    to_state text not null,
    by text not null,
    reason text not null,
    run text not null
);
create index if not exists break_history_by_break on trust.break_history (break_id, history_id);
create table if not exists trust.compared (
    pair text not null,
    pod text not null,
    cut bigint,
    checked_at timestamptz not null,
    run text not null,
    primary key (pair, pod)
);
alter table trust.compared add column if not exists epoch_opened_at timestamptz;
create sequence if not exists trust.moments;
alter table trust.breaks add column if not exists seen_from bigint;
alter table trust.breaks add column if not exists seen_until bigint;
alter table trust.breaks add column if not exists claimed_moment bigint;
alter table trust.compared add column if not exists moment bigint;
alter table trust.compared add column if not exists recorded_moment bigint;
create table if not exists trust.looks (name text primary key, looked_at timestamptz not null);
comment on table trust.looks is 'When each worker last looked for breaks to repair, by this database''s clock.';
comment on sequence trust.moments is
'Orders what was seen and done over all processes: what is numbered later happened later, whatever clocks say.';
comment on table trust.breaks is 'One row per key that did not agree; amounts are the signed differences by column.';
comment on table trust.break_history is 'Every change of a break, never changed or deleted; from_state null: opened.';
comment on table trust.break_groups is 'Incidents: breaks of one pair, pod and class; keys counts also unlisted ones.';
comment on table trust.compared is 'The newest comparison of a pair in a pod that the ledger has taken in.';
"""

GUARDS = """
create or replace function trust.refuse() returns trigger language plpgsql as $body$
begin
    raise exception using
        errcode = 'check_violation', schema = tg_table_schema, table = tg_table_name,
        message = format('%s.%s is evidence: its rows are not deleted, and not changed once they are complete.',
                         tg_table_schema, tg_table_name);
end
$body$;
create trigger is_evidence before update or delete on trust.break_history
for each row execute function trust.refuse();
create trigger is_evidence_as_a_whole before truncate on trust.break_history
for each statement execute function trust.refuse();
create trigger is_not_deleted before delete on trust.breaks
for each row execute function trust.refuse();
create trigger is_not_deleted_as_a_whole before truncate on trust.breaks
for each statement execute function trust.refuse();
"""

DECISIONS = """
create table if not exists trust.decisions (
    decision_id bigint generated always as identity primary key,
    at timestamptz not null,
    pod text not null,
    aggregate_key text not null,
    decision text not null check (decision in ('restate', 'correct')),
    digest text not null,
    by text not null check (by <> ''),
    reason text not null check (reason <> ''),
    break_ids bigint[] not null,
    changes jsonb not null
);
create index if not exists decisions_by_aggregate_hash on trust.decisions using hash (aggregate_key);
drop index if exists trust.decisions_by_aggregate;
comment on table trust.decisions is
'What people decided about an aggregate that no event explains, never changed or deleted; digest: of the state shown.';
"""

DECISION_GUARDS = """
create trigger is_evidence before update or delete on trust.decisions
for each row execute function trust.refuse();
create trigger is_evidence_as_a_whole before truncate on trust.decisions
for each statement execute function trust.refuse();
"""

GUARDED = """
select exists (select from pg_trigger where tgname = 'is_evidence' and tgrelid = %(table)s::regclass) as is_guarded
"""

MOMENT = """
select nextval('trust.moments') as moment,
       (select max(greatest(moment, recorded_moment)) from trust.compared) as highest
"""
BEYOND_ALL = """
select setval('trust.moments', 1 + greatest(
    nextval('trust.moments'),
    (select max(greatest(moment, recorded_moment)) from trust.compared),
    (select max(greatest(seen_until, claimed_moment)) from trust.breaks),
    (select max(moment) from reconcile.results)
)) as moment
"""
"""Sets the counter above every used number. After a reset of the counter, every new comparison would count as old."""

LOCK = "tieout ledger of breaks"


def migrate(control_dsn: str) -> None:
    """Create the ledger's tables in the control database, if they do not exist."""
    with ledger(control_dsn) as connection:
        connection.execute(TABLES)
        guard(connection, "trust.break_history", GUARDS)
        connection.execute(DECISIONS)
        guard(connection, "trust.decisions", DECISION_GUARDS)


def guard(connection: Connection, table: str, guards: LiteralString) -> None:
    """Create triggers, unless `table` has them: creating a trigger waits for every writer of the table."""
    row = connection.execute(GUARDED, {"table": table}).fetchone()
    if row is None or not row["is_guarded"]:
        connection.execute(guards)


ABSENT = (psycopg.OperationalError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)
"""There is no ledger yet, or it cannot be reached; then no result of a comparison can be recorded either."""


def next_moment(control_dsn: str) -> int | None:
    """Return the next number of the ledger's counter; a comparison takes one before it reads anything.

    None when there is no ledger yet, or when it cannot be reached; then the result cannot be recorded either.
    """
    try:
        with psycopg.connect(control_dsn, autocommit=True, row_factory=dict_row) as connection:
            given = one(connection, MOMENT, {})
        if given["highest"] is not None and given["moment"] <= given["highest"]:
            with ledger(control_dsn) as connection:
                given = one(connection, BEYOND_ALL, {})
    except ABSENT:
        return None
    return int(given["moment"])


@contextmanager
def ledger(control_dsn: str) -> Iterator[Connection]:
    """Open a transaction that writes to the ledger. These transactions are serialized by a lock."""
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        hold_ledger(connection)
        yield connection


def hold_ledger(connection: psycopg.Connection[Any]) -> None:
    """Acquire the ledger's lock, which all writers take, until the connection's transaction ends."""
    connection.execute("select pg_advisory_xact_lock(hashtext(%s))", (LOCK,))


@contextmanager
def reading(control_dsn: str) -> Iterator[Connection]:
    """Open a read-only transaction that sees one snapshot of the ledger and takes no lock."""
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection


def one(connection: Connection, statement: str, bound: Mapping[str, Any]) -> dict[str, Any]:
    """Return the only row of a statement."""
    row = connection.execute(statement, bound).fetchone()
    assert row is not None
    return row
