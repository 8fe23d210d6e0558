with orders as (
    select
        * exclude (lines),
        unnest(lines) as line
    from {{ ref('int_orders_history') }} as history
    where {{ is_standing('history') }}
)

select
    line.order_line_id,
    order_id,
    merchant_id,
    currency,
    line.line_number,
    line.kind,
    line.variant_id,
    line.sku,
    line.title,
    line.quantity,
    line.unit_price_micro,
    line.price_source,
    line.price_reason,
    line.amount_minor,
    line.rounding_micro,
    line.discount_minor,
    line.jurisdiction,
    line.tax_category,
    line.rate_ppm,
    line.is_tax_inclusive,
    line.taxable_minor,
    line.tax_minor,
    line.total_minor,
    line.cancelled_quantity,
    line.cancelled_minor,
    line.cancelled_tax_minor,
    line.fulfilled_quantity,
    line.withdrawn_quantity,
    {{ business_day('placed_at') }} as order_date,
    pod,
    valid_from_cut as cut
from orders
