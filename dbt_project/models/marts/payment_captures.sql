with payments as (
    select
        * exclude (captures),
        unnest(captures) as capture
    from {{ ref('int_payments_history') }} as history
    where {{ is_standing('history') }}
)

select
    capture.payment_capture_id,
    payment_id,
    order_id,
    merchant_id,
    currency,
    capture.amount_minor,
    capture.provider_reference,
    capture.captured_at,
    {{ business_day('capture.captured_at') }} as captured_date,
    pod,
    valid_from_cut as cut
from payments
