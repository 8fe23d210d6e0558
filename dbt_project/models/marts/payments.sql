select
    payment_id,
    order_id,
    merchant_id,
    customer_id,
    currency,
    status,
    provider,
    provider_reference,
    authorized_minor,
    captured_minor,
    refunded_minor,
    captured_minor - refunded_minor as net_minor,
    released_minor,
    gift_card_id,
    authorized_at,
    {{ business_day('authorized_at') }} as authorized_date,
    version,
    pod,
    valid_from_cut as cut,
    occurred_at as changed_at,
    recorded_at
from {{ ref('int_payments_history') }} as history
where {{ is_standing('history') }}
