-- A stock level is the sum of its slots: of one (slot 0) as a rule, of 16 for a variant that so many buy at once that they
-- would wait for one counter's lock. `stock_levels` is a view now, so whoever reads a level reads it right, however it is
-- spread.
--
-- No event says how a level is spread: it changes no level, and no copy holds levels. `stock_slot_changes` says who did it.

alter table oltp.stock_levels rename to stock_slots;
do $rename$
declare
    old_name text;
begin
    for old_name in
        select conname from pg_constraint where conrelid = 'oltp.stock_slots'::regclass and conname like 'stock\_levels\_%'
    loop
        execute format(
            'alter table oltp.stock_slots rename constraint %I to %I',
            old_name, 'stock_slots_' || substr(old_name, length('stock_levels_') + 1)
        );
    end loop;
end
$rename$;
alter table oltp.stock_slots add column slot smallint not null default 0;
alter table oltp.stock_slots add column slots smallint not null default 1;
alter table oltp.stock_slots alter column slot drop default;
alter table oltp.stock_slots alter column slots drop default;
alter table oltp.stock_slots drop constraint stock_slots_pkey;
alter table oltp.stock_slots add constraint stock_slots_pkey primary key (variant_id, location_id, slot);
-- By the last one a level stays within its limit, however its slots are filled.
alter table oltp.stock_slots
add constraint stock_slots_slots_known check (slots in (1, 16)),
add constraint stock_slots_slot_within_slots check (slot >= 0 and slot < slots),
add constraint stock_slots_level_limit check (on_hand * slots <= 1000000000000);

create view oltp.stock_levels as
select
    variant_id,
    location_id,
    merchant_id,
    sum(on_hand)::bigint as on_hand,
    sum(reserved)::bigint as reserved
from oltp.stock_slots
group by variant_id, location_id, merchant_id;
grant select on oltp.stock_levels to tieout_app, tieout_reader;

create table oltp.stock_slot_changes (
    stock_slot_change_id uuid not null,
    merchant_id text not null,
    variant_id uuid not null,
    location_id text not null,
    slots smallint not null,
    on_hand bigint not null,
    reserved bigint not null,
    reason text not null,
    changed_at timestamp with time zone not null,
    constraint stock_slot_changes_pkey primary key (stock_slot_change_id),
    constraint stock_slot_changes_slots_known check (slots in (1, 16)),
    constraint stock_slot_changes_location_id_limit check (char_length(location_id) <= 100 and location_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'), -- noqa: LT05
    constraint stock_slot_changes_on_hand_limit check (on_hand between -1000000000000 and 1000000000000),
    constraint stock_slot_changes_reserved_limit check (reserved between -1000000000000 and 1000000000000),
    constraint stock_slot_changes_reason_limit check (char_length(reason) <= 2000 and reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]') -- noqa: LT05
);
create index stock_slot_changes_variant_id_location_id_idx on oltp.stock_slot_changes (variant_id, location_id);
grant select on oltp.stock_slot_changes to tieout_app, tieout_reader;

-- As 0001_stock.sql has it, but the levels are those of the view.
create or replace view oltp.stock_identity_violations as
with parts as (
    select
        merchant_id,
        variant_id,
        location_id,
        quantity as moved,
        0 as held
    from oltp.stock_movements
    union all
    select
        merchant_id,
        variant_id,
        location_id,
        0 as moved,
        quantity - consumed_quantity - released_quantity as held
    from oltp.reservation_lines
),

derived as (
    select
        merchant_id,
        variant_id,
        location_id,
        sum(moved)::bigint as moved,
        sum(held)::bigint as held
    from parts
    group by merchant_id, variant_id, location_id
)

select
    merchant_id,
    variant_id,
    location_id,
    coalesce(counters.on_hand, 0) as on_hand,
    coalesce(derived.moved, 0) as moved,
    coalesce(counters.reserved, 0) as reserved,
    coalesce(derived.held, 0) as held
from oltp.stock_levels as counters
full join derived using (merchant_id, variant_id, location_id) -- noqa: ST07
where
    coalesce(counters.on_hand, 0) <> coalesce(derived.moved, 0)
    or coalesce(counters.reserved, 0) <> coalesce(derived.held, 0);

-- Moving ------------------------------------------------------------------------------------------------------------------

create function oltp.refuse_stock(
    moved_sku text, moved_location_id text, on_hand_delta bigint, reserved_delta bigint, on_hand bigint, reserved bigint
) returns void
language plpgsql as $body$
begin
    perform oltp.refuse(
        case
            when on_hand + on_hand_delta > 1000000000000 then 'stock_slots_on_hand_limit'
            when reserved + reserved_delta < 0 then 'stock_slots_reserved_not_negative'
            else 'stock_slots_reserved_within_on_hand'
        end,
        'stock_slots',
        format(
            'Variant %s at %s: %s units needed, %s available.',
            moved_sku,
            moved_location_id,
            greatest(reserved_delta, -on_hand_delta),
            on_hand - reserved
        )
    );
end
$body$;

-- Adds to a level that is spread over slots; false: it is not spread (any more). Refuses when the sum of the slots has too
-- few units.
--
-- First any slot that nobody has locked and that can take the whole change; then each that can, in order, waiting for it;
-- then all, waiting for them in the order of their numbers: their sum is moved and filled in evenly again. A slot that was
-- waited for may have become too small, and its lock would be kept; so each try is a block of its own that gives its locks
-- back: who waits for a slot holds no other one of this level, and nobody waits in a circle.
create function oltp.move_slotted_stock(
    moved_merchant_id text,
    moved_location_id text,
    moved_variant_id uuid,
    moved_sku text,
    on_hand_delta bigint,
    reserved_delta bigint
) returns boolean
language plpgsql as $body$
declare
    first_slot integer := floor(random() * 16);
    candidate smallint;
    level record;
    locked smallint[];
begin
    select count(*) as slots, sum(on_hand)::bigint as on_hand, sum(reserved)::bigint as reserved into level
    from oltp.stock_slots
    where variant_id = moved_variant_id and location_id = moved_location_id and merchant_id = moved_merchant_id
        and slots > 1;
    if level.slots = 0 then
        return false;
    end if;
    -- One snapshot sees all slots: at this moment there were too few units, whatever is under way.
    if level.on_hand + on_hand_delta < level.reserved + reserved_delta or level.reserved + reserved_delta < 0 then
        perform oltp.refuse_stock(
            moved_sku, moved_location_id, on_hand_delta, reserved_delta, level.on_hand, level.reserved
        );
    end if;

    begin
        update oltp.stock_slots
        set on_hand = on_hand + on_hand_delta, reserved = reserved + reserved_delta
        where variant_id = moved_variant_id and location_id = moved_location_id and slot = (
            select free.slot from oltp.stock_slots as free
            where free.variant_id = moved_variant_id
                and free.location_id = moved_location_id
                and free.slots > 1
                and free.on_hand + on_hand_delta >= free.reserved + reserved_delta
                and free.reserved + reserved_delta >= 0
                and (free.on_hand + on_hand_delta) * free.slots <= 1000000000000
            order by (free.slot + first_slot) % 16
            limit 1
            for update skip locked
        );
        if found then
            return true;
        end if;
        raise exception using errcode = 'TS001', message = 'No slot is free.';
    exception
        when sqlstate 'TS001' then null;
    end;

    for candidate in
        select slot from oltp.stock_slots
        where variant_id = moved_variant_id and location_id = moved_location_id and slots > 1
            and on_hand + on_hand_delta >= reserved + reserved_delta
            and reserved + reserved_delta >= 0
            and (on_hand + on_hand_delta) * slots <= 1000000000000
        order by (slot + first_slot) % 16
    loop
        begin
            update oltp.stock_slots
            set on_hand = on_hand + on_hand_delta, reserved = reserved + reserved_delta
            where variant_id = moved_variant_id and location_id = moved_location_id and slot = candidate and slots > 1
                and on_hand + on_hand_delta >= reserved + reserved_delta
                and reserved + reserved_delta >= 0
                and (on_hand + on_hand_delta) * slots <= 1000000000000;
            if found then
                return true;
            end if;
            raise exception using errcode = 'TS001', message = 'The slot has become too small.';
        exception
            when sqlstate 'TS001' then null;
        end;
    end loop;

    locked := array(
        select slot from oltp.stock_slots
        where variant_id = moved_variant_id and location_id = moved_location_id and slots > 1
        order by slot
        for update
    );
    if cardinality(locked) <> 16 then
        -- It was folded back meanwhile, and perhaps spread again.
        return false;
    end if;
    select sum(on_hand)::bigint + on_hand_delta as on_hand, sum(reserved)::bigint + reserved_delta as reserved into level
    from oltp.stock_slots
    where variant_id = moved_variant_id and location_id = moved_location_id;
    if level.on_hand < level.reserved or level.reserved < 0 or level.on_hand > 1000000000000 then
        perform oltp.refuse_stock(
            moved_sku,
            moved_location_id,
            on_hand_delta,
            reserved_delta,
            level.on_hand - on_hand_delta,
            level.reserved - reserved_delta
        );
    end if;
    update oltp.stock_slots
    set
        on_hand = level.on_hand / 16 + (slot < level.on_hand % 16)::integer,
        reserved = level.reserved / 16 + (slot < level.reserved % 16)::integer
    where variant_id = moved_variant_id and location_id = moved_location_id;
    return true;
end
$body$;

-- The first movement at a location adds its counter; else it refuses. False: the level has changed meanwhile, try again.
create function oltp.move_first_stock(
    moved_merchant_id text,
    moved_location_id text,
    moved_variant_id uuid,
    moved_sku text,
    on_hand_delta bigint,
    reserved_delta bigint
) returns boolean
language plpgsql as $body$
declare
    level oltp.stock_slots;
begin
    select * into level from oltp.stock_slots
    where variant_id = moved_variant_id and location_id = moved_location_id and slot = 0
    for update;
    if found and level.merchant_id = moved_merchant_id and (
        level.slots > 1
        or level.on_hand + on_hand_delta >= level.reserved + reserved_delta and level.reserved + reserved_delta >= 0
    )
    then
        return false;
    end if;
    if not found and reserved_delta >= 0 and on_hand_delta >= reserved_delta then
        insert into oltp.stock_slots (variant_id, location_id, slot, slots, merchant_id, on_hand, reserved)
        values (moved_variant_id, moved_location_id, 0, 1, moved_merchant_id, on_hand_delta, reserved_delta)
        on conflict do nothing;
        return found;
    end if;
    perform oltp.refuse_stock(
        moved_sku,
        moved_location_id,
        on_hand_delta,
        reserved_delta,
        coalesce(level.on_hand, 0),
        coalesce(level.reserved, 0)
    );
end
$body$;

-- As 0001_stock.sql has it: adds to the levels of several variants at one location, in the order of their ids, so that two
-- commands never wait for each other in a circle.
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

-- Spreading ---------------------------------------------------------------------------------------------------------------

-- Spreads a level over `wanted_slots` slots (16), or folds it back into one (1), while it is sold from. The level stays as
-- it is. Every change leaves a row of its own; a level that is spread so already changes nothing. With the owner's rights,
-- because commands delete no slots otherwise.
create function oltp.spread_stock(
    spread_merchant_id text,
    spread_location_id text,
    spread_variant_id uuid,
    wanted_slots smallint,
    change_id uuid,
    change_reason text,
    change_at timestamp with time zone,
    out slots_before smallint,
    out level_on_hand bigint,
    out level_reserved bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
begin
    if not exists (
        select from oltp.variants where variant_id = spread_variant_id and merchant_id = spread_merchant_id
    )
    then
        perform oltp.refuse(
            'stock_variant_is_known',
            'stock_slots',
            format('Merchant %s has no variant %s.', spread_merchant_id, spread_variant_id)
        );
    end if;
    insert into oltp.stock_slots (variant_id, location_id, slot, slots, merchant_id, on_hand, reserved)
    values (spread_variant_id, spread_location_id, 0, 1, spread_merchant_id, 0, 0)
    on conflict do nothing;
    -- Who spreads or folds holds slot 0: with it the set of slots stays as it is.
    select slots into slots_before from oltp.stock_slots
    where variant_id = spread_variant_id and location_id = spread_location_id and slot = 0
    for update;
    perform from oltp.stock_slots
    where variant_id = spread_variant_id and location_id = spread_location_id
    order by slot
    for update;
    select sum(on_hand), sum(reserved) into level_on_hand, level_reserved from oltp.stock_slots
    where variant_id = spread_variant_id and location_id = spread_location_id;
    if slots_before = wanted_slots then
        return;
    end if;
    delete from oltp.stock_slots
    where variant_id = spread_variant_id and location_id = spread_location_id and slot > 0;
    update oltp.stock_slots
    set
        slots = wanted_slots,
        on_hand = level_on_hand / wanted_slots + (level_on_hand % wanted_slots > 0)::integer,
        reserved = level_reserved / wanted_slots + (level_reserved % wanted_slots > 0)::integer
    where variant_id = spread_variant_id and location_id = spread_location_id and slot = 0;
    insert into oltp.stock_slots (variant_id, location_id, slot, slots, merchant_id, on_hand, reserved)
    select
        spread_variant_id, spread_location_id, slot, wanted_slots, spread_merchant_id,
        level_on_hand / wanted_slots + (slot < level_on_hand % wanted_slots)::integer,
        level_reserved / wanted_slots + (slot < level_reserved % wanted_slots)::integer
    from generate_series(1, wanted_slots - 1) as slot;
    insert into oltp.stock_slot_changes (
        stock_slot_change_id, merchant_id, variant_id, location_id, slots, on_hand, reserved, reason, changed_at
    )
    values (
        change_id, spread_merchant_id, spread_variant_id, spread_location_id, wanted_slots,
        level_on_hand, level_reserved, change_reason, change_at
    );
end
$body$;

revoke all on function
oltp.refuse_stock(text, text, bigint, bigint, bigint, bigint),
oltp.move_slotted_stock(text, text, uuid, text, bigint, bigint),
oltp.move_first_stock(text, text, uuid, text, bigint, bigint),
oltp.spread_stock(text, text, uuid, smallint, uuid, text, timestamp with time zone)
from public;
grant execute on function
oltp.refuse_stock(text, text, bigint, bigint, bigint, bigint),
oltp.move_slotted_stock(text, text, uuid, text, bigint, bigint),
oltp.move_first_stock(text, text, uuid, text, bigint, bigint),
oltp.spread_stock(text, text, uuid, smallint, uuid, text, timestamp with time zone)
to tieout_app;
