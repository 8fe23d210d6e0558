with fulfillments as (
    select
        * exclude (lines),
        unnest(lines) as line
    from {{ ref('int_fulfillments_history') }} as history
    where {{ is_standing('history') }}
)

select
    line.fulfillment_line_id,
    fulfillment_id,
    order_id,
    merchant_id,
    location_id,
    tracking_number,
    line.order_line_id,
    line.quantity,
    shipped_at,
    {{ business_day('shipped_at') }} as shipped_date,
    recorded_at,
    pod,
    valid_from_cut as cut
from fulfillments
