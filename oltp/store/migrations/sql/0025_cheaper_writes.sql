-- As 0013_positions.sql has it, but the first event of an aggregate, before which there is none, looks for none.
create or replace function oltp.outbox_positions_grow() returns trigger
language plpgsql as $body$
declare
    is_used boolean;
begin
    select new.position <= position into is_used from oltp.outbox_floor;
    if new.aggregate_version > 1 and is_used is not true then
        is_used := exists (
            select from oltp.outbox as earlier
            where
                earlier.aggregate_type = new.aggregate_type and earlier.aggregate_id = new.aggregate_id
                and earlier.aggregate_version = new.aggregate_version - 1 and earlier.position > new.position
        );
    end if;
    if is_used then
        perform oltp.refuse_unless_bypassed(
            'outbox_positions_grow', 'outbox', format('Position %s of the outbox was used before.', new.position)
        );
    end if;
    return new;
end
$body$;

-- As 0021_stock_slots.sql has it, but of a level that is spread we first take any slot that is free and far from its end:
-- the first from a random one on that nobody has locked and that keeps 1,000 units on both sides. That is one statement by
-- the primary key, without a sum and without a block of its own, and waits for nobody. Where another command has taken those
-- 1,000 units in that very moment, the slot stays locked though it is not used: then a circle is possible, which the server
-- finds, and the command is tried again. All else is for `move_slotted_stock`.
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
    first_slot smallint;
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
            first_slot := floor(random() * 16);
            update oltp.stock_slots
            set on_hand = stock_slots.on_hand + item.on_hand, reserved = stock_slots.reserved + item.reserved
            where
                variant_id = item.variant_id
                and location_id = moved_location_id
                and slot = (
                    select free.slot from oltp.stock_slots as free
                    where
                        free.variant_id = item.variant_id
                        and free.location_id = moved_location_id
                        and free.slot >= first_slot
                        and free.slots > 1
                        and free.merchant_id = moved_merchant_id
                        and free.on_hand + item.on_hand >= free.reserved + item.reserved + 1000
                        and (item.reserved >= 0 or free.reserved + item.reserved >= 1000)
                        and (item.on_hand <= 0 or (free.on_hand + item.on_hand + 1000) * free.slots <= 1000000000000)
                    order by free.slot
                    limit 1
                    for update skip locked
                );
            exit when found;
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
