-- Notifications of the payment provider: each is stored once, by the provider's id, before anything is done with it.
create table oltp.provider_notifications (
    provider text not null,
    event_id text not null,
    merchant_id text not null,
    kind text not null,
    provider_key text,
    authorization_reference text,
    body text not null,
    state text default 'pending' not null,
    reason text default '' not null,
    decided_by text,
    attempts bigint default 0 not null,
    received_at timestamp with time zone default clock_timestamp() not null,
    tried_at timestamp with time zone default clock_timestamp() not null,
    constraint provider_notifications_pkey primary key (provider, event_id),
    constraint provider_notifications_state_known check (state in ('pending', 'applied', 'parked', 'dismissed')),
    constraint provider_notifications_attempts_not_negative check (attempts >= 0)
);
create index provider_notifications_open_idx on oltp.provider_notifications (state, tried_at)
where state in ('pending', 'parked');
create index provider_notifications_key_idx on oltp.provider_notifications (merchant_id, provider_key);
create index provider_notifications_received_at_idx on oltp.provider_notifications using brin (received_at);

-- A notification names a payment by the provider's reference of its authorization.
create index payments_provider_reference_idx on oltp.payments (merchant_id, provider_reference)
where provider_reference <> '';

-- Only what has ended is removed, and nothing that is younger than a month, whoever calls.
create function oltp.prune_provider_notifications(kept_for interval, rows_max integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    removed bigint;
begin
    delete from oltp.provider_notifications as old
    using (
        select ctid from oltp.provider_notifications
        where received_at < clock_timestamp() - greatest(kept_for, interval '30 days')
            and state in ('applied', 'dismissed')
        limit rows_max
        for update skip locked
    ) as found
    where old.ctid = found.ctid;
    get diagnostics removed = row_count;
    return removed;
end
$body$;

revoke all on function oltp.prune_provider_notifications(interval, integer) from public;
grant execute on function oltp.prune_provider_notifications(interval, integer) to tieout_relay;
grant select, insert, update (state, reason, decided_by, attempts, tried_at) on oltp.provider_notifications to tieout_app;
grant select on oltp.provider_notifications to tieout_reader;
