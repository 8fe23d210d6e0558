-- Money is counted by whose entry it is, whatever its event: a restatement books what another event should have booked.
with days as (
    select
        merchant_id,
        entry_date as sales_date,
        currency,
        sum(amount_micro) filter (
            where account = 'clearing'
            and aggregate_type = 'order'
            and event_type not in ('order_cancelled', 'order_units_withdrawn')
        ) as placed_micro,
        -sum(amount_micro) filter (
            where account = 'clearing' and event_type in ('order_cancelled', 'order_units_withdrawn')
        ) as cancelled_micro,
        sum(amount_micro) filter (where account = 'cash' and aggregate_type = 'payment') as captured_micro,
        -sum(amount_micro) filter (where account = 'cash' and aggregate_type = 'refund') as refunded_micro,
        sum(amount_micro) filter (where account = 'cash') as cash_micro,
        -sum(amount_micro) filter (where account = 'tax_payable') as tax_micro,
        sum(amount_micro) filter (where account = 'discounts') as discount_micro,
        -sum(amount_micro) filter (where account = 'sales') as sales_micro,
        -sum(amount_micro) filter (where account = 'shipping') as shipping_micro,
        sum(amount_micro) filter (where account = 'rounding') as rounding_micro,
        sum(amount_micro) filter (where account = 'clearing' and aggregate_type = 'adjustment') as adjusted_micro,
        max(recorded_at) as last_recorded_at
    from {{ ref('journal') }}
    group by merchant_id, entry_date, currency
),

-- An order that costs nothing has no journal entry, and is an order. Its first version is a fact as an entry is one.
placed as (
    select
        merchant_id,
        {{ business_day('placed_at') }} as sales_date,
        currency,
        count(*) as order_count,
        max(recorded_at) as last_recorded_at
    from {{ ref('int_orders_history') }} as facts
    where version = 1 and {{ is_booked('facts', business_day('facts.placed_at'), cut='valid_from_cut') }}
    group by merchant_id, sales_date, currency
)

select
    merchant_id,
    sales_date,
    currency,
    coalesce(placed.order_count, 0) as order_count,
    {{ as_minor('placed_micro') }} as placed_minor,
    {{ as_minor('cancelled_micro') }} as cancelled_minor,
    {{ as_minor('captured_micro') }} as captured_minor,
    {{ as_minor('refunded_micro') }} as refunded_minor,
    {{ as_minor('cash_micro') }} as net_minor,
    {{ as_minor('tax_micro') }} as tax_minor,
    {{ as_minor('discount_micro') }} as discount_minor,
    {{ as_minor('adjusted_micro') }} as adjusted_minor,
    cast(coalesce(days.sales_micro, 0) as hugeint) as sales_micro,
    cast(coalesce(days.shipping_micro, 0) as hugeint) as shipping_micro,
    cast(coalesce(days.rounding_micro, 0) as hugeint) as rounding_micro,
    coalesce(days.last_recorded_at, placed.last_recorded_at) as last_recorded_at
from days
full join placed using (merchant_id, sales_date, currency)
