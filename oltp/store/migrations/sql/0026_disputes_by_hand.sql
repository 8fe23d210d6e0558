-- Disputes are listed by merchant, the newest first.
create index payment_disputes_merchant_idx on oltp.payment_disputes (merchant_id, opened_at, payment_dispute_id);

-- What was said of a dispute is found by the authorization that it is about.
create index provider_notifications_disputes_idx on oltp.provider_notifications (merchant_id, authorization_reference)
where kind in ('dispute.opened', 'dispute.won', 'dispute.lost');

-- As before, except that what a person has said by hand stays: nothing else says who did, and why.
create or replace function oltp.prune_provider_notifications(kept_for interval, rows_max integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    removed bigint;
begin
    delete from oltp.provider_notifications as old
    using (
        select ctid from oltp.provider_notifications
        where received_at < clock_timestamp() - greatest(kept_for, interval '30 days')
            and state in ('applied', 'dismissed') and provider <> 'by hand'
        limit rows_max
        for update skip locked
    ) as found
    where old.ctid = found.ctid;
    get diagnostics removed = row_count;
    return removed;
end
$body$;
