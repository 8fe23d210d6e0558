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
from {{ standing_parts('int_payments_history', 'captures', 'capture') }} as payments
