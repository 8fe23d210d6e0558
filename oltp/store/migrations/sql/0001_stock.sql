-- Stock counters: the one statement that moves them, and the query that proves them.

-- Adds to the counters of several variants at one location, in the order of their ids, so that two commands never wait
-- for each other in a circle. A counter that would break a limit refuses with a sentence that names the variant.
create function oltp.move_stock(
    moved_merchant_id text,
    moved_location_id text,
    variant_ids uuid[],
    on_hand_deltas bigint[],
    reserved_deltas bigint[]
) returns void
language plpgsql as $body$
declare
    item record;
    level oltp.stock_levels;
    moved_sku text;
begin
    for item in
        select * from unnest(variant_ids, on_hand_deltas, reserved_deltas) as given (variant_id, on_hand, reserved)
        order by variant_id
    loop
        update oltp.stock_levels
        set on_hand = stock_levels.on_hand + item.on_hand, reserved = stock_levels.reserved + item.reserved
        where
            variant_id = item.variant_id
            and location_id = moved_location_id
            and merchant_id = moved_merchant_id
            and stock_levels.on_hand + item.on_hand >= stock_levels.reserved + item.reserved
            and stock_levels.reserved + item.reserved >= 0;
        continue when found;
        select sku into moved_sku from oltp.variants
        where variant_id = item.variant_id and merchant_id = moved_merchant_id;
        if not found then
            perform oltp.refuse(
                'stock_variant_is_known',
                'stock_levels',
                format('Merchant %s has no variant %s.', moved_merchant_id, item.variant_id)
            );
        end if;
        if item.reserved >= 0 and item.on_hand >= item.reserved then
            -- Nothing but the first movement at a location gets here with amounts that fit.
            insert into oltp.stock_levels (variant_id, location_id, merchant_id, on_hand, reserved)
            values (item.variant_id, moved_location_id, moved_merchant_id, item.on_hand, item.reserved)
            on conflict (variant_id, location_id) do update
            set on_hand = stock_levels.on_hand + excluded.on_hand, reserved = stock_levels.reserved + excluded.reserved;
            continue;
        end if;
        select * into level from oltp.stock_levels
        where variant_id = item.variant_id and location_id = moved_location_id;
        perform oltp.refuse(
            case
                when level.reserved + item.reserved < 0 then 'stock_levels_reserved_not_negative'
                else 'stock_levels_reserved_within_on_hand'
            end,
            'stock_levels',
            format(
                'Variant %s at %s: %s units needed, %s available.',
                moved_sku,
                moved_location_id,
                greatest(item.reserved, -item.on_hand),
                coalesce(level.on_hand - level.reserved, 0)
            )
        );
    end loop;
end
$body$;

-- Counters beside what they must be. One row per (variant, location) where they differ: empty when all is well.
create view oltp.stock_identity_violations as
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
