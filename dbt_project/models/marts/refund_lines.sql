select
    line.refund_line_id,
    refund_id,
    line.order_line_id,
    order_id,
    merchant_id,
    currency,
    status,
    line.quantity,
    line.amount_minor,
    line.tax_minor,
    line.jurisdiction,
    line.tax_category,
    line.is_restocked,
    line.is_amount_named,
    {{ business_day('completed_at') }} as refund_date,
    pod,
    valid_from_cut as cut
from {{ standing_parts('int_refunds_history', 'lines', 'line') }} as refunds
