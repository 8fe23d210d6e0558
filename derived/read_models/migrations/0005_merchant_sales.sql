-- Merchant sales: what each merchant sold, captured and refunded, by UTC day and currency. There is one row per order,
-- capture and completed refund. Queries read the sums of these rows.

create table if not exists read_models.sales_orders (
    merchant_id text not null,
    order_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    day text not null,
    currency text not null,
    ordered_minor bigint not null,
    cancelled_minor bigint not null,
    directory_epoch bigint not null default 1,
    primary key (merchant_id, order_id)
);
create index if not exists sales_orders_day on read_models.sales_orders (merchant_id, day, currency);

create table if not exists read_models.sales_payments (
    merchant_id text not null,
    payment_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    currency text not null,
    directory_epoch bigint not null default 1,
    primary key (merchant_id, payment_id)
);

create table if not exists read_models.sales_captures (
    merchant_id text not null,
    payment_id text not null,
    payment_capture_id text not null,
    day text not null,
    currency text not null,
    captured_minor bigint not null,
    primary key (merchant_id, payment_id, payment_capture_id)
);
create index if not exists sales_captures_day on read_models.sales_captures (merchant_id, day, currency);

create table if not exists read_models.sales_refunds (
    merchant_id text not null,
    refund_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    day text not null,
    currency text not null,
    refunded_minor bigint not null,
    directory_epoch bigint not null default 1,
    primary key (merchant_id, refund_id)
);
create index if not exists sales_refunds_day on read_models.sales_refunds (merchant_id, day, currency);

create table if not exists read_models.merchant_sales_days (
    merchant_id text not null,
    sales_day_id text not null
    generated always as (md5(merchant_id || '/' || day || '/' || currency)::uuid::text) stored,
    day text not null,
    currency text not null,
    row_count bigint not null,
    order_count numeric(38, 0) not null default 0,
    ordered_minor numeric(38, 0) not null default 0,
    cancelled_minor numeric(38, 0) not null default 0,
    captured_minor numeric(38, 0) not null default 0,
    refunded_minor numeric(38, 0) not null default 0,
    primary key (merchant_id, day, currency)
);
create unique index if not exists merchant_sales_days_id on read_models.merchant_sales_days (sales_day_id);

select
    read_models.add_up(
        part_table, 'merchant_sales_days', 'sales_day_id', '{merchant_id, day, currency}', measures, amounts
    )
from (
    values
    (
        'sales_orders',
        '{order_count, ordered_minor, cancelled_minor}'::text [],
        '{1, ordered_minor, cancelled_minor}'::text []
    ),
    ('sales_captures', '{captured_minor}'::text [], '{captured_minor}'::text []),
    ('sales_refunds', '{refunded_minor}'::text [], '{refunded_minor}'::text [])
) as parts (part_table, measures, amounts);
