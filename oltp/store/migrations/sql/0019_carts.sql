-- Carts as the writer of carts has written them through, and the orders that they became. A cart is no aggregate: it has
-- no events, because nothing is decided by it until it is an order.
create table oltp.carts (
    merchant_id text not null,
    cart_id uuid not null,
    number bigint not null,
    vector jsonb not null,
    state jsonb not null,
    incarnation text not null,
    is_ahead boolean not null,
    touched_at timestamp with time zone not null,
    written_at timestamp with time zone default clock_timestamp() not null,
    constraint carts_pkey primary key (merchant_id, cart_id),
    constraint carts_number_positive check (number >= 1),
    constraint carts_vector_is_the_states check (vector = state -> 'seen'),
    constraint carts_number_is_the_states check (to_jsonb(number) = state -> 'number')
);
create index carts_is_ahead_idx on oltp.carts (merchant_id, cart_id) where is_ahead;
create index carts_touched_at_idx on oltp.carts (touched_at);

create table oltp.cart_orders (
    merchant_id text not null,
    cart_id uuid not null,
    number bigint not null,
    order_id uuid not null,
    ordered_at timestamp with time zone not null,
    constraint cart_orders_pkey primary key (merchant_id, cart_id, number),
    constraint cart_orders_number_positive check (number >= 1),
    constraint cart_orders_order_id_fkey foreign key (order_id) references oltp.orders (order_id)
);
create index cart_orders_order_id_idx on oltp.cart_orders (order_id);

grant select, insert, update, delete on oltp.carts to tieout_app;
grant select, insert on oltp.cart_orders to tieout_app;
grant select on oltp.carts, oltp.cart_orders to tieout_reader;
