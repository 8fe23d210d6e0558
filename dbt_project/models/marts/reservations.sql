select
    line.reservation_line_id,
    reservation_id,
    merchant_id,
    order_id,
    status,
    expires_at,
    line.variant_id,
    line.location_id,
    line.quantity,
    line.consumed_quantity,
    line.released_quantity,
    line.quantity - line.consumed_quantity - line.released_quantity as held_quantity,
    version,
    pod,
    valid_from_cut as cut,
    occurred_at as changed_at,
    recorded_at
from {{ standing_parts('int_reservations_history', 'lines', 'line') }} as reservations
