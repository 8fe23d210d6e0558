-- Read models: positions, parked events, account view, fulfillment view.
-- Rows are copies of the newest applied event of an aggregate. (epoch, version) is the event's and guards every write.
-- Ids are text, as events carry them: a malformed one is a difference to be found, not a reason to stop.

create table if not exists read_models.positions (
    projection text not null,
    pod text not null,
    partition integer not null,
    epoch text,
    cut bigint not null,
    chunk integer not null,
    data_at timestamptz,
    primary key (projection, pod, partition)
);
comment on table read_models.positions is
'How far a projection has applied a pod: all cuts <= cut, and the first chunk entries of cut + 1, per partition.';

create table if not exists read_models.parked_events (
    projection text not null,
    pod text not null,
    aggregate_key text not null,
    event_id text not null,
    cut bigint not null,
    position bigint not null,
    event text not null,
    error text not null,
    parked_at timestamptz not null,
    primary key (projection, pod, event_id)
);
comment on table read_models.parked_events is
'Events that a projection could not apply, and those behind them; event is the whole envelope as JSON text.';

-- Account view: what a customer sees. Guests (no customer_id) are not in it.

create table if not exists read_models.account_orders (
    merchant_id text not null,
    order_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    customer_id text not null,
    order_number text not null,
    status text not null,
    currency text not null,
    item_quantity bigint not null,
    lines_minor bigint not null,
    discount_minor bigint not null,
    shipping_minor bigint not null,
    tax_minor bigint not null,
    total_minor bigint not null,
    cancelled_minor bigint not null,
    cancelled_tax_minor bigint not null,
    placed_at timestamptz not null,
    primary key (merchant_id, order_id)
);
create index if not exists account_orders_customer on read_models.account_orders (merchant_id, customer_id);

create table if not exists read_models.account_payments (
    merchant_id text not null,
    payment_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    customer_id text not null,
    order_id text not null,
    status text not null,
    currency text not null,
    authorized_minor bigint not null,
    captured_minor bigint not null,
    refunded_minor bigint not null,
    authorized_at timestamptz not null,
    primary key (merchant_id, payment_id)
);
create index if not exists account_payments_customer on read_models.account_payments (merchant_id, customer_id);

create table if not exists read_models.account_refunds (
    merchant_id text not null,
    refund_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    customer_id text not null,
    order_id text not null,
    payment_id text not null,
    status text not null,
    currency text not null,
    amount_minor bigint not null,
    tax_minor bigint not null,
    reason text not null,
    requested_at timestamptz not null,
    completed_at timestamptz,
    primary key (merchant_id, refund_id)
);
create index if not exists account_refunds_customer on read_models.account_refunds (merchant_id, customer_id);

create table if not exists read_models.account_entitlements (
    merchant_id text not null,
    entitlement_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    customer_id text not null,
    feature text not null,
    effective_level integer not null,
    -- Grants that are not revoked, as JSON: expiry is judged by the reader's clock, so all survivors must be there.
    grants text not null,
    primary key (merchant_id, entitlement_id)
);
create index if not exists account_entitlements_customer on read_models.account_entitlements (merchant_id, customer_id);

-- Fulfillment view: what to ship. Every order has a row (it carries the guard); lines are there while they are open.

create table if not exists read_models.fulfillment_orders (
    merchant_id text not null,
    order_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    customer_id text,
    order_number text not null,
    status text not null,
    reservation_id text,
    open_quantity bigint not null,
    ordered_at timestamptz not null,
    primary key (merchant_id, order_id)
);
create index if not exists fulfillment_orders_open on read_models.fulfillment_orders (merchant_id, ordered_at, order_id)
where open_quantity > 0;

create table if not exists read_models.fulfillment_lines (
    merchant_id text not null,
    order_id text not null,
    order_line_id text not null,
    line_number integer not null,
    variant_id text,
    sku text not null,
    title text not null,
    quantity bigint not null,
    fulfilled_quantity bigint not null,
    cancelled_quantity bigint not null,
    open_quantity bigint not null,
    primary key (merchant_id, order_id, order_line_id)
);
comment on table read_models.fulfillment_lines is 'Lines of goods with open_quantity > 0.';

create table if not exists read_models.fulfillment_reservations (
    merchant_id text not null,
    reservation_id text not null,
    pod text not null,
    epoch text not null,
    version bigint not null,
    order_id text,
    status text not null,
    primary key (merchant_id, reservation_id)
);

create table if not exists read_models.fulfillment_reservation_lines (
    merchant_id text not null,
    reservation_id text not null,
    reservation_line_id text not null,
    variant_id text not null,
    location_id text not null,
    held_quantity bigint not null,
    primary key (merchant_id, reservation_id, reservation_line_id)
);
comment on table read_models.fulfillment_reservation_lines is 'Lines that still hold units: where an order is shipped from.';
