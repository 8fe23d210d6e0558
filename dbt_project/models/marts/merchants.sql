select
    merchant_id,
    name,
    currency,
    is_active,
    is_tax_inclusive,
    jurisdiction,
    shipping_fee_minor,
    free_shipping_from_minor,
    registered_at,
    bank_transfer_days,
    direct_debit_days,
    ships_before_paid,
    version,
    pod,
    valid_from_cut as cut,
    occurred_at as changed_at,
    recorded_at
from {{ ref('int_merchants_history') }} as history
where {{ is_standing('history') }}
