-- Which tables hold aggregates, and what every such table has for that. A migration that brings an aggregate creates its
-- tables and declares them:
--     select oltp.declare_root('gift_card', 'gift_cards', 'gift_card_id', true);
--     select oltp.declare_child('gift_card', 'gift_card_lines', 'gift_card_id', true);
-- That attaches the guards of 0001_triggers.sql, gives rights, and lets the outbox take the aggregate's events.
--
-- The guards stay static: the functions below write one function per table when it is declared, so that no row that
-- changes looks anything up in these two tables.

create table oltp.aggregate_roots (
    aggregate_type text not null,
    number bigint generated always as identity (cache 1),
    table_name text not null,
    id_column text not null,
    constraint aggregate_roots_pkey primary key (aggregate_type),
    constraint aggregate_roots_table_name_key unique (table_name)
);
create table oltp.aggregate_children (
    table_name text not null,
    aggregate_type text not null,
    id_column text not null,
    constraint aggregate_children_pkey primary key (table_name),
    constraint aggregate_children_aggregate_type_fkey
    foreign key (aggregate_type) references oltp.aggregate_roots (aggregate_type)
);

-- Those that were there, the ones with most events first: `outbox_follows_root` asks in this order.
insert into oltp.aggregate_roots (aggregate_type, table_name, id_column) values
('stock_movement', 'stock_movements', 'stock_movement_id'),
('order', 'orders', 'order_id'),
('reservation', 'reservations', 'reservation_id'),
('payment', 'payments', 'payment_id'),
('fulfillment', 'fulfillments', 'fulfillment_id'),
('refund', 'refunds', 'refund_id'),
('adjustment', 'adjustments', 'adjustment_id'),
('product', 'products', 'product_id'),
('customer_entitlement', 'customer_entitlements', 'entitlement_id'),
('merchant_entitlement', 'merchant_entitlements', 'entitlement_id'),
('merchant', 'merchants', 'merchant_id');
insert into oltp.aggregate_children (table_name, aggregate_type, id_column) values
('merchant_tax_rates', 'merchant', 'merchant_id'),
('merchant_entitlement_grants', 'merchant_entitlement', 'entitlement_id'),
('customer_entitlement_grants', 'customer_entitlement', 'entitlement_id'),
('variants', 'product', 'product_id'),
('prices', 'product', 'product_id'),
('reservation_lines', 'reservation', 'reservation_id'),
('order_lines', 'order', 'order_id'),
('order_tax_lines', 'order', 'order_id'),
('order_line_taxes', 'order', 'order_id'),
('order_discounts', 'order', 'order_id'),
('payment_captures', 'payment', 'payment_id'),
('refund_lines', 'refund', 'refund_id'),
('refund_line_taxes', 'refund', 'refund_id'),
('fulfillment_lines', 'fulfillment', 'fulfillment_id'),
('adjustment_taxes', 'adjustment', 'adjustment_id');
grant select on oltp.aggregate_roots, oltp.aggregate_children to tieout_app, tieout_reader;

-- Guards --------------------------------------------------------------------------------------------------------------------

-- Attaches the deferred trigger `<table>_have_events`, whose function has that name too; one that is there stays.
create function oltp.attach_have_events(guarded_table text) returns void
language plpgsql as $attach$
begin
    if not exists (
        select from pg_trigger
        where tgrelid = format('oltp.%I', guarded_table)::regclass and tgname = guarded_table || '_have_events'
    )
    then
        execute format(
            'create constraint trigger %1$I after insert or update or delete on oltp.%2$I '
            'deferrable initially deferred for each row execute function oltp.%1$I()',
            guarded_table || '_have_events', guarded_table
        );
    end if;
end
$attach$;

-- Of a root: the version follows the old one, and the outbox has an event of this very transaction for it. A row may be
-- deleted only by the transaction that gave it its last version (a tombstone).
create function oltp.guard_root(root oltp.aggregate_roots) returns void
language plpgsql as $guard$
begin
    execute format(
        $function$
        create or replace function oltp.%1$I() returns trigger language plpgsql as $body$
        declare
            changed oltp.%2$I := case when tg_op = 'DELETE' then old else new end;
        begin
            if (tg_op = 'INSERT' and new.version <> 1)
                or (
                    tg_op = 'UPDATE'
                    and (
                        new.version <> old.version + 1
                        or new.%4$I <> old.%4$I
                        or new.merchant_id <> old.merchant_id
                    )
                )
            then
                perform oltp.refuse_unless_bypassed(
                    'version_follows', %2$L, format('%3$s %%s: the version does not follow.', changed.%4$I)
                );
            end if;
            if not exists (
                select from oltp.outbox
                where
                    aggregate_type = %3$L
                    and aggregate_id = changed.%4$I::text
                    and aggregate_version = changed.version
                    and merchant_id = changed.merchant_id
                    and xid = pg_current_xact_id()
            )
            then
                perform oltp.refuse_unless_bypassed(
                    'change_has_event',
                    %2$L,
                    format('%3$s %%s: version %%s has no event of this transaction.', changed.%4$I, changed.version)
                );
            end if;
            return null;
        end
        $body$
        $function$,
        root.table_name || '_have_events', root.table_name, root.aggregate_type, root.id_column
    );
    perform oltp.attach_have_events(root.table_name);
end
$guard$;

-- Of a child: the newest event of its root is of this very transaction (the outbox accepted it only because the root has
-- that version).
create function oltp.guard_child(child oltp.aggregate_children) returns void
language plpgsql as $guard$
begin
    execute format(
        $function$
        create or replace function oltp.%1$I() returns trigger language plpgsql as $body$
        declare
            changed oltp.%2$I := case when tg_op = 'DELETE' then old else new end;
            is_ours boolean;
        begin
            select xid = pg_current_xact_id() and merchant_id = changed.merchant_id
            into is_ours
            from oltp.outbox
            where aggregate_type = %3$L and aggregate_id = changed.%4$I::text
            order by aggregate_version desc
            limit 1;
            if is_ours is not true
                or (tg_op = 'UPDATE' and (new.%4$I <> old.%4$I or new.merchant_id <> old.merchant_id))
            then
                perform oltp.refuse_unless_bypassed(
                    'change_has_event',
                    %2$L,
                    format('%3$s %%s: its %2$s changed without an event of this transaction.', changed.%4$I)
                );
            end if;
            return null;
        end
        $body$
        $function$,
        child.table_name || '_have_events', child.table_name, child.aggregate_type, child.id_column
    );
    perform oltp.attach_have_events(child.table_name);
end
$guard$;

-- Writes `outbox_follows_root` anew, with a branch per root: an event is accepted only once its root has that version.
create function oltp.follow_roots() returns void
language plpgsql as $follow$
declare
    branches text;
begin
    select
        string_agg(
            format(
                $branch$
                when %1$L then
                    select version into root_version from oltp.%2$I
                    where %3$I = new.aggregate_id%4$s and merchant_id = new.merchant_id;
                $branch$,
                root.aggregate_type, root.table_name, root.id_column,
                case when id.atttypid = 'uuid'::regtype then '::uuid' else '' end
            ),
            '' order by root.number
        )
    into branches
    from oltp.aggregate_roots as root
    inner join pg_attribute as id
        on id.attrelid = format('oltp.%I', root.table_name)::regclass and root.id_column = id.attname;
    execute format(
        $function$
        create or replace function oltp.outbox_follows_root() returns trigger language plpgsql as $body$
        declare
            root_version bigint;
        begin
            case new.aggregate_type
                %s
                else
                    perform oltp.refuse(
                        'event_follows_root', 'outbox', format('No table holds aggregates of type %%s.', new.aggregate_type)
                    );
            end case;
            if root_version is distinct from new.aggregate_version then
                perform oltp.refuse_unless_bypassed(
                    'event_follows_root',
                    'outbox',
                    format(
                        '%%s %%s has version %%s, not yet the event''s %%s: change the root first.',
                        new.aggregate_type, new.aggregate_id, coalesce(root_version::text, 'none'), new.aggregate_version
                    )
                );
            end if;
            return new;
        end
        $body$
        $function$,
        branches
    );
end
$follow$;

-- Declaring -----------------------------------------------------------------------------------------------------------------

-- Commands read and insert the rows of every table of an aggregate, and change them only where that is said; nobody
-- deletes any.
create function oltp.grant_rights(declared_table text, is_changed boolean) returns void
language plpgsql as $grant$
begin
    execute format('grant select on oltp.%I to tieout_app, tieout_reader', declared_table);
    execute format('grant insert on oltp.%I to tieout_app', declared_table);
    if is_changed then
        execute format('grant update on oltp.%I to tieout_app', declared_table);
    end if;
end
$grant$;

-- A root with a `status` takes only the steps of `allowed_transitions`, where the migration has inserted them.
create function oltp.declare_root(declared_type text, root_table text, root_id_column text, is_changed boolean)
returns void
language plpgsql as $declare$
declare
    root oltp.aggregate_roots;
begin
    insert into oltp.aggregate_roots (aggregate_type, table_name, id_column)
    values (declared_type, root_table, root_id_column)
    returning * into root;
    perform oltp.guard_root(root);
    perform oltp.follow_roots();
    perform oltp.grant_rights(root_table, is_changed);
    if exists (
        select from pg_attribute
        where attrelid = format('oltp.%I', root_table)::regclass and attname = 'status' and not attisdropped
    )
    then
        execute format(
            'create trigger %I before insert or update on oltp.%I '
            'for each row execute function oltp.status_is_reachable(%L)',
            root_table || '_status', root_table, declared_type
        );
    end if;
end
$declare$;

create function oltp.declare_child(root_type text, child_table text, root_id_column text, is_changed boolean)
returns void
language plpgsql as $declare$
declare
    child oltp.aggregate_children;
begin
    insert into oltp.aggregate_children (table_name, aggregate_type, id_column)
    values (child_table, root_type, root_id_column)
    returning * into child;
    perform oltp.guard_child(child);
    perform oltp.grant_rights(child_table, is_changed);
end
$declare$;

-- Only migrations declare, with the owner's rights.
revoke all on function
oltp.attach_have_events(text),
oltp.guard_root(oltp.aggregate_roots),
oltp.guard_child(oltp.aggregate_children),
oltp.follow_roots(),
oltp.grant_rights(text, boolean),
oltp.declare_root(text, text, text, boolean),
oltp.declare_child(text, text, text, boolean)
from public;

-- What was there is written anew by the same functions; its triggers stay, and so no table is locked.
select oltp.guard_root(root) from oltp.aggregate_roots as root;
select oltp.guard_child(child) from oltp.aggregate_children as child;
select oltp.follow_roots();
