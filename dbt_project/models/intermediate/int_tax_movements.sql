{% set vector = cut_vector() %}
-- Tax as signed movements, per line and jurisdiction: charged when an order is placed, taken back by cancellations and
-- refunds, changed by adjustments. A movement is the difference between two versions of an aggregate, as a journal
-- entry is.
with order_versions as (
    {{ changed_versions(ref('int_orders_history'), vector) }}
),

refund_versions as (
    {{ changed_versions(ref('int_refunds_history'), vector) }}
),

adjustment_versions as (
    {{ changed_versions(ref('int_adjustments_history'), vector) }}
),

order_lines as (
    select
        pod,
        valid_from_cut as cut,
        event_id,
        version,
        merchant_id,
        currency,
        order_id,
        if(version = 1, placed_at, occurred_at) as booked_at,
        recorded_at,
        is_new,
        unnest(lines) as line
    from order_versions
),

refund_lines as (
    select
        pod,
        valid_from_cut as cut,
        event_id,
        version,
        merchant_id,
        currency,
        order_id,
        coalesce(completed_at, occurred_at) as booked_at,
        recorded_at,
        is_new,
        status,
        unnest(lines) as line
    from refund_versions
),

order_amounts as (
    select
        * exclude (line),
        line.order_line_id,
        line.order_line_id as source_line_id,
        line.jurisdiction,
        line.tax_category,
        line.rate_ppm,
        unnest([
            {
                'movement': 'charged',
                'taxable_minor': line.taxable_minor,
                'tax_minor': line.tax_minor
            },
            {
                'movement': 'cancelled',
                'taxable_minor': line.cancelled_tax_minor - line.cancelled_minor,
                'tax_minor': -line.cancelled_tax_minor
            }
        ]) as amount
    from order_lines
),

refund_amounts as (
    select
        * exclude (line, status),
        line.order_line_id,
        line.refund_line_id as source_line_id,
        line.jurisdiction,
        line.tax_category,
        cast(null as bigint) as rate_ppm,
        {
            'movement': 'refunded',
            'taxable_minor': if(status = 'completed', line.tax_minor - line.amount_minor, 0),
            'tax_minor': if(status = 'completed', -line.tax_minor, 0)
        } as amount
    from refund_lines
),

adjustment_amounts as (
    select
        pod,
        valid_from_cut as cut,
        event_id,
        version,
        merchant_id,
        currency,
        cast(null as varchar) as order_id,
        adjusted_at as booked_at,
        recorded_at,
        is_new,
        cast(null as varchar) as order_line_id,
        adjustment_id as source_line_id,
        jurisdiction,
        tax_category,
        rate_ppm,
        {
            'movement': 'adjusted',
            'taxable_minor': amount_minor - tax_minor,
            'tax_minor': tax_minor
        } as amount
    from adjustment_versions
    where tax_category is not null
),

amounts as (
    select * from order_amounts
    union all
    select * from refund_amounts
    union all
    select * from adjustment_amounts
),

movements as (
    select
        * exclude (amount),
        amount.movement,
        amount.taxable_minor - coalesce(lag(amount.taxable_minor) over line_versions, 0) as taxable_minor,
        amount.tax_minor - coalesce(lag(amount.tax_minor) over line_versions, 0) as tax_minor
    from amounts
    window line_versions as (
        partition by pod, merchant_id, source_line_id, amount.movement
        order by version
    )
)

select
    pod,
    cut,
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
    cast(taxable_minor as bigint) as taxable_minor,
    cast(tax_minor as bigint) as tax_minor,
    {{ business_day('booked_at') }} as tax_date,
    booked_at,
    recorded_at
from movements
where
    is_new
    -- A line without tax is charged too: every order line has its row.
    and (taxable_minor <> 0 or tax_minor <> 0 or (movement = 'charged' and version = 1))
order by cut, event_id, source_line_id
