{% set vector = cut_vector() %}
-- Tax as signed movements, per line and jurisdiction (a line with several taxes has a movement for each): charged when
-- an order is placed, taken back by cancellations and refunds, changed by adjustments. Like a journal entry, a movement
-- is the difference between two versions of an aggregate.
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
        coalesce(failed_at, completed_at, occurred_at) as booked_at,
        recorded_at,
        is_new,
        status,
        unnest(lines) as line
    from refund_versions
),

order_taxes as (
    select
        pod,
        event_id,
        unnest(line_taxes) as tax
    from order_versions
),

refund_taxes as (
    select
        pod,
        event_id,
        unnest(line_taxes) as tax
    from refund_versions
),

order_line_taxes as (
    select
        pod,
        event_id,
        tax.order_line_id,
        tax.jurisdiction,
        tax.rate_ppm,
        tax.tax_minor,
        tax.cancelled_tax_minor
    from order_taxes
),

refund_line_taxes as (
    select
        pod,
        event_id,
        tax.refund_line_id,
        tax.jurisdiction,
        tax.tax_minor
    from refund_taxes
),

keyed_order_lines as (
    select
        *,
        line.order_line_id
    from order_lines
),

keyed_refund_lines as (
    select
        *,
        line.refund_line_id
    from refund_lines
),

-- A line with several taxes has one row per tax; a line with one tax has one row without a named tax.
taxed_order_lines as (
    select
        lines.*,
        taxes.jurisdiction,
        taxes.rate_ppm,
        taxes.tax_minor,
        taxes.cancelled_tax_minor
    from keyed_order_lines as lines
    left join order_line_taxes as taxes
        on
            lines.pod = taxes.pod
            and lines.event_id = taxes.event_id
            and lines.order_line_id = taxes.order_line_id
),

taxed_refund_lines as (
    select
        lines.*,
        taxes.jurisdiction,
        taxes.tax_minor
    from keyed_refund_lines as lines
    left join refund_line_taxes as taxes
        on
            lines.pod = taxes.pod
            and lines.event_id = taxes.event_id
            and lines.refund_line_id = taxes.refund_line_id
),

order_amounts as (
    select
        * exclude (line, order_line_id, jurisdiction, rate_ppm, tax_minor, cancelled_tax_minor),
        order_line_id,
        order_line_id as source_line_id,
        coalesce(jurisdiction, line.jurisdiction) as jurisdiction,
        line.tax_category,
        coalesce(rate_ppm, line.rate_ppm) as rate_ppm,
        unnest([
            {
                'movement': 'charged',
                'taxable_minor': line.taxable_minor,
                'tax_minor': coalesce(tax_minor, line.tax_minor)
            },
            {
                'movement': 'cancelled',
                'taxable_minor': line.cancelled_tax_minor - line.cancelled_minor,
                'tax_minor': -coalesce(cancelled_tax_minor, line.cancelled_tax_minor)
            }
        ]) as amount
    from taxed_order_lines
),

refund_amounts as (
    select
        * exclude (line, status, refund_line_id, jurisdiction, tax_minor),
        line.order_line_id,
        refund_line_id as source_line_id,
        coalesce(jurisdiction, line.jurisdiction) as jurisdiction,
        line.tax_category,
        cast(null as bigint) as rate_ppm,
        {
            'movement': 'refunded',
            'taxable_minor': if(status = 'completed', line.tax_minor - line.amount_minor, 0),
            'tax_minor': if(status = 'completed', -coalesce(tax_minor, line.tax_minor), 0)
        } as amount
    from taxed_refund_lines
),

adjustment_taxes as (
    select
        * exclude (taxes),
        unnest(if(
            len(taxes) > 0,
            taxes,
            [{'jurisdiction': jurisdiction, 'rate_ppm': rate_ppm, 'tax_minor': tax_minor}]
        )) as tax
    from adjustment_versions
    where tax_category is not null
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
        tax.jurisdiction,
        tax_category,
        tax.rate_ppm,
        {
            'movement': 'adjusted',
            'taxable_minor': amount_minor - tax_minor,
            'tax_minor': tax.tax_minor
        } as amount
    from adjustment_taxes
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
        partition by merchant_id, source_line_id, jurisdiction, amount.movement
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
    -- Keep the row of a line without tax too, so that every order line has a row "charged".
    and (taxable_minor <> 0 or tax_minor <> 0 or (movement = 'charged' and version = 1))
order by cut, event_id, source_line_id, jurisdiction
