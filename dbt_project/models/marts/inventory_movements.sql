select
    stock_movement_id,
    merchant_id,
    variant_id,
    location_id,
    kind,
    quantity,
    reason,
    order_id,
    moved_at,
    {{ business_day('moved_at') }} as movement_date,
    recorded_at,
    pod,
    valid_from_cut as cut
from {{ ref('int_stock_movements_history') }} as history
where {{ is_standing('history') }}
