-- Calls to the payment provider that are under way: committed before the provider is asked, deleted with its answer.
create table oltp.provider_calls (
    merchant_id text not null,
    idempotency_key text not null,
    command text not null,
    body text not null,
    kind text not null,
    provider_key text not null,
    order_id uuid not null,
    payment_id uuid not null,
    refund_id uuid,
    subject text not null,
    amount_minor bigint not null,
    currency text not null,
    asked_at timestamp with time zone default clock_timestamp() not null,
    constraint provider_calls_pkey primary key (merchant_id, idempotency_key),
    constraint provider_calls_currency_code check (currency ~ '^[A-Z]{3}$'),
    constraint provider_calls_kind_known check (kind in ('authorize', 'capture', 'void', 'refund', 'give_up')),
    constraint provider_calls_amount_minor_not_negative check (amount_minor >= 0),
    constraint provider_calls_refund_is_named check ((kind = 'refund') = (refund_id is not null))
);
create index provider_calls_order_id_idx on oltp.provider_calls (order_id);
-- One authorization at a time may become a payment of this id.
create unique index provider_calls_authorized_payment_idx on oltp.provider_calls (payment_id)
where kind in ('authorize', 'give_up');

-- With the owner's rights: who may delete from a table may also lock it against everybody. A key is given back only while
-- nothing was answered under it.
create function oltp.close_provider_call(closed_merchant_id text, closed_key text, frees_key boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
begin
    delete from oltp.provider_calls where merchant_id = closed_merchant_id and idempotency_key = closed_key;
    if found and frees_key then
        delete from oltp.idempotency_keys
        where merchant_id = closed_merchant_id and idempotency_key = closed_key and response is null;
    end if;
end
$body$;

revoke all on function oltp.close_provider_call(text, text, boolean) from public;
grant execute on function oltp.close_provider_call(text, text, boolean) to tieout_app;
grant select, insert, update (kind, provider_key, subject) on oltp.provider_calls to tieout_app;
grant select on oltp.provider_calls to tieout_reader;
