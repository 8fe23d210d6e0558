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
from {{ standing_parts('int_fulfillments_history', 'lines', 'line') }} as fulfillments
