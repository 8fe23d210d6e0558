select
    adjustment_id,
    merchant_id,
    kind,
    currency,
    amount_minor,
    rounding_micro,
    quantity,
    sku,
    customer_id,
    external_reference,
    reason,
    source,
    adjusted_at,
    tax_minor,
    jurisdiction,
    tax_category,
    rate_ppm,
    {{ business_day('adjusted_at') }} as adjustment_date,
    recorded_at,
    pod,
    valid_from_cut as cut
from {{ ref('int_adjustments_history') }} as history
where {{ is_standing('history') }}
