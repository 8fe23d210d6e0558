"""The tables of webhooks, in the control database beside the API keys: an endpoint belongs to a merchant, not to a pod.

- `endpoints`: what merchants registered. Written by the HTTP interface alone.
- `standings`: whether an endpoint is parked or full. Written by whoever tells, and by a person who lets it go on.
- `subscriptions`: of which cuts an endpoint is told which events. A cut never loses its row: the comparison derives
  from these rows and the lake what must have been told.
- `deliveries`: one row per endpoint and event. Its body is kept until the endpoint has acknowledged it, or a person has
  skipped it. A skipped one is kept for ever, because what is complete except for it must say so.
- `skips`: that a person has skipped a message, who and why. A note is only a copy: one that is noted again, because it
  was lost, is skipped again. Rows stay; a replay, which tells the message after all, ends them.
- `positions`: how far the log was followed. They change in one transaction with deliveries and subscriptions.

Belongs here: the tables. Does not belong here: statements on them.
"""

from __future__ import annotations

import psycopg

_MIGRATE = """
create schema if not exists webhooks;
create table if not exists webhooks.endpoints (
    endpoint_id text primary key,
    merchant_id text not null,
    url text not null,
    event_types text[] not null,
    description text not null,
    is_enabled boolean not null,
    version bigint not null,
    -- Its secrets are computed from the pepper and these numbers; the earlier one still signs until `earlier_until`.
    secret_number integer not null,
    earlier_until timestamptz,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    deleted_at timestamptz
);
create index if not exists endpoints_by_merchant on webhooks.endpoints (merchant_id, endpoint_id);
create table if not exists webhooks.requests (
    merchant_id text not null,
    idempotency_key text not null,
    -- What was asked for, field by field, and what was answered, without secrets.
    asked jsonb not null,
    answer jsonb not null,
    made_at timestamptz not null,
    primary key (merchant_id, idempotency_key)
);
create table if not exists webhooks.standings (
    endpoint_id text primary key,
    parked_at timestamptz,
    parked_because text not null default '',
    -- The endpoint has as many waiting deliveries as are kept: none is noted for it until there is room.
    full_at timestamptz,
    acknowledged_at timestamptz,
    failed_at timestamptz,
    failed_because text not null default ''
);
create table if not exists webhooks.subscriptions (
    subscription_id bigint generated always as identity primary key,
    endpoint_id text not null,
    merchant_id text not null,
    pod text not null,
    from_cut bigint not null,
    -- Null: it goes on.
    until_cut bigint,
    event_types text[] not null,
    endpoint_version bigint not null,
    reason text not null check (reason in ('registered', 'changed', 'room', 'replayed')),
    ended_because text not null default '' check (ended_because in ('', 'changed', 'disabled', 'deleted', 'full')),
    check (until_cut >= from_cut)
);
create unique index if not exists subscription_that_goes_on
    on webhooks.subscriptions (endpoint_id, pod) where until_cut is null;
create index if not exists subscriptions_by_pod on webhooks.subscriptions (pod, endpoint_id);
create table if not exists webhooks.deliveries (
    endpoint_id text not null,
    event_id text not null,
    merchant_id text not null,
    pod text not null,
    epoch text not null,
    cut bigint not null,
    position bigint not null,
    aggregate_type text not null,
    aggregate_id text not null,
    event_type text not null,
    recorded_at timestamptz not null,
    state text not null check (state in ('waiting', 'acknowledged', 'withdrawn')),
    body bytea,
    attempts integer not null default 0,
    first_failed_at timestamptz,
    next_attempt_at timestamptz,
    last_status integer,
    acknowledged_at timestamptz,
    primary key (endpoint_id, event_id),
    check ((state = 'waiting') = (body is not null)),
    check ((state = 'acknowledged') = (acknowledged_at is not null)),
    check (state <> 'acknowledged' or (attempts > 0 and last_status between 200 and 299))
);
create index if not exists deliveries_waiting
    on webhooks.deliveries (endpoint_id, pod, cut, position) where state = 'waiting';
create index if not exists deliveries_by_pod on webhooks.deliveries (pod, cut);
create index if not exists deliveries_by_aggregate on webhooks.deliveries (pod, aggregate_id collate "C");
create table if not exists webhooks.positions (
    pod text not null,
    partition integer not null,
    epoch text not null,
    cut bigint not null,
    chunk integer not null,
    data_at timestamptz,
    primary key (pod, partition)
);
create table if not exists webhooks.kept (
    endpoint_id text not null,
    pod text not null,
    -- Deliveries up to this cut that were acknowledged, and proven, may be gone.
    pruned_cut bigint not null,
    primary key (endpoint_id, pod)
);
do $$ begin
    if not exists (select from information_schema.columns where table_schema = 'webhooks'
                   and table_name = 'deliveries' and column_name = 'skipped_at') then
        alter table webhooks.deliveries
            drop constraint deliveries_state_check,
            add column skipped_at timestamptz,
            -- Who decided it, and why.
            add column skipped_by text not null default '',
            add column skipped_because text not null default '',
            add constraint deliveries_state_check
                check (state in ('waiting', 'acknowledged', 'withdrawn', 'skipped')),
            add constraint deliveries_skipped_check
                check (state <> 'skipped' or (skipped_at is not null and skipped_because <> ''));
    end if;
end $$;
do $$ begin
    if to_regclass('webhooks.skips') is null then
        create table webhooks.skips (
            endpoint_id text not null,
            event_id text not null,
            pod text not null,
            cut bigint not null,
            event_type text not null,
            aggregate_type text not null,
            aggregate_id text not null,
            skipped_at timestamptz not null,
            skipped_by text not null,
            skipped_because text not null check (skipped_because <> ''),
            -- Since when a replay tells the message after all; null: it is skipped.
            ended_at timestamptz,
            primary key (endpoint_id, event_id, skipped_at)
        );
        create unique index skip_that_stands on webhooks.skips (event_id, endpoint_id) where ended_at is null;
        create index skips_by_pod on webhooks.skips (pod) where ended_at is null;
        -- What was skipped before this table was there.
        insert into webhooks.skips
        select endpoint_id, event_id, pod, cut, event_type, aggregate_type, aggregate_id, skipped_at, skipped_by,
               skipped_because
        from webhooks.deliveries where state = 'skipped';
    end if;
end $$;
create index if not exists deliveries_skipped on webhooks.deliveries (endpoint_id, pod) where state = 'skipped';
"""


def migrate_webhooks(control_dsn: str) -> None:
    """Create the tables in the control database; existing ones stay unchanged."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('webhooks'))")
        connection.execute(_MIGRATE)
