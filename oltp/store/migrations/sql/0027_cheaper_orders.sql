-- What an order writes, for less: the same is refused, by the same names.

-- As 0003_restatement.sql and 0014_aggregates.sql have it, but a new row in a status that its type begins in, which nearly
-- every one is, asks nothing: the trigger's condition knows those statuses. `allowed_transitions` has the last word, so who
-- takes a beginning from it must attach the triggers again.
create function oltp.attach_status(root oltp.aggregate_roots) returns void
language plpgsql as $attach$
declare
    beginnings text[] := array(
        select to_status from oltp.allowed_transitions
        where aggregate_type = root.aggregate_type and from_status = ''
        order by to_status
    );
begin
    if not exists (
        select from pg_attribute
        where attrelid = format('oltp.%I', root.table_name)::regclass and attname = 'status' and not attisdropped
    )
    then
        return;
    end if;
    execute format('drop trigger if exists %I on oltp.%I', root.table_name || '_status', root.table_name);
    execute format('drop trigger if exists %I on oltp.%I', root.table_name || '_status_begins', root.table_name);
    execute format(
        'create trigger %I before update on oltp.%I for each row execute function oltp.status_is_reachable(%L)',
        root.table_name || '_status', root.table_name, root.aggregate_type
    );
    execute format(
        'create trigger %I before insert on oltp.%I for each row when ((new.status = any (%L::text[])) is not true) '
        'execute function oltp.status_is_reachable(%L)',
        root.table_name || '_status_begins', root.table_name, beginnings, root.aggregate_type
    );
end
$attach$;

create or replace function oltp.declare_root(declared_type text, root_table text, root_id_column text, is_changed boolean)
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
    perform oltp.attach_status(root);
end
$declare$;
revoke all on function oltp.attach_status(oltp.aggregate_roots) from public;

select oltp.attach_status(root) from oltp.aggregate_roots as root;

-- As 0021_stock_slots.sql has it, but a level that is spread is first asked for a few slots by chance, by their keys. A slot is
-- locked only where nobody else has it and where it has the units, so who gets one moves it for certain, nobody waits, and
-- no lock is kept for nothing. Only where these slots are taken or too small, `move_slotted_stock` looks at all of them.
create or replace function oltp.move_stock(
    moved_merchant_id text,
    moved_location_id text,
    variant_ids uuid[],
    on_hand_deltas bigint[],
    reserved_deltas bigint[]
) returns void
language plpgsql as $body$
declare
    item record;
    moved_sku text;
    chosen_slot integer;
    is_locked boolean;
begin
    for item in
        select * from unnest(variant_ids, on_hand_deltas, reserved_deltas) as given (variant_id, on_hand, reserved)
        order by variant_id
    loop
        -- Each turn that moves nothing was made void by another command's commit.
        loop
            update oltp.stock_slots
            set on_hand = stock_slots.on_hand + item.on_hand, reserved = stock_slots.reserved + item.reserved
            where
                variant_id = item.variant_id
                and location_id = moved_location_id
                and slot = 0
                and slots = 1
                and merchant_id = moved_merchant_id
                and stock_slots.on_hand + item.on_hand >= stock_slots.reserved + item.reserved
                and stock_slots.reserved + item.reserved >= 0;
            exit when found;
            for tried in 1 .. 3 loop
                chosen_slot := floor(random() * 16);
                perform from oltp.stock_slots
                where
                    variant_id = item.variant_id
                    and location_id = moved_location_id
                    and slot = chosen_slot
                    and slots > 1
                    and merchant_id = moved_merchant_id
                    and on_hand + item.on_hand >= reserved + item.reserved
                    and reserved + item.reserved >= 0
                    and (on_hand + item.on_hand) * slots <= 1000000000000
                for update skip locked;
                is_locked := found;
                exit when is_locked;
            end loop;
            if is_locked then
                update oltp.stock_slots
                set on_hand = stock_slots.on_hand + item.on_hand, reserved = stock_slots.reserved + item.reserved
                where variant_id = item.variant_id and location_id = moved_location_id and slot = chosen_slot;
                exit;
            end if;
            select sku into moved_sku from oltp.variants
            where variant_id = item.variant_id and merchant_id = moved_merchant_id;
            if not found then
                perform oltp.refuse(
                    'stock_variant_is_known',
                    'stock_slots',
                    format('Merchant %s has no variant %s.', moved_merchant_id, item.variant_id)
                );
            end if;
            exit when oltp.move_slotted_stock(
                moved_merchant_id, moved_location_id, item.variant_id, moved_sku, item.on_hand, item.reserved
            );
            exit when oltp.move_first_stock(
                moved_merchant_id, moved_location_id, item.variant_id, moved_sku, item.on_hand, item.reserved
            );
        end loop;
    end loop;
end
$body$;

-- A line's tax basis is found by the line; nothing asks for it by its order.
drop index oltp.order_tax_lines_order_id_idx;
