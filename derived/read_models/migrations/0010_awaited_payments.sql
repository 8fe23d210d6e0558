-- What a merchant has to ship waits for money: payments whose money comes later, of the fulfillment view.
-- The table begins empty. Payments that wait already get their row with their next event, or before that from the
-- comparison, which finds the row missing and writes this key again from the lake. Nothing else is read again.
create table if not exists read_models.fulfillment_payments (
    merchant_id text not null,
    payment_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    order_id text not null,
    currency text not null,
    awaited_minor bigint not null,
    expires_at timestamptz,
    returned_minor bigint not null,
    directory_epoch bigint not null default 1,
    primary key (merchant_id, payment_id)
);
comment on table read_models.fulfillment_payments is 'Bank transfers and direct debits, whatever has become of them.';
create index if not exists fulfillment_payments_order on read_models.fulfillment_payments (merchant_id, order_id);
create index if not exists fulfillment_payments_compared
on read_models.fulfillment_payments (payment_id collate "C");
