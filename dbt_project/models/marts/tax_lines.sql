select
    event_id,
    movement,
    source_line_id,
    order_line_id,
    order_id,
    merchant_id,
    currency,
    jurisdiction,
    tax_category,
    rate_ppm,
    taxable_minor,
    tax_minor,
    tax_date,
    booked_at,
    recorded_at,
    pod,
    cut
from {{ ref('int_tax_movements') }} as facts
where {{ is_booked('facts', 'facts.tax_date') }}
