-- Money is counted by the aggregate type of the entry, not by its event type, because a restatement books what another
-- event should have booked.
with days as (
    select
        merchant_id,
        entry_date as sales_date,
        currency,
        sum(amount_micro) filter (where account = 'clearing' and aggregate_type = 'order') as owed_micro,
        sum(amount_micro) filter (where account in {{ tenders() }} and aggregate_type = 'payment') as captured_micro,
        -sum(amount_micro) filter (where account in {{ tenders() }} and aggregate_type = 'refund') as refunded_micro,
        sum(amount_micro) filter (
            where account in {{ tenders() }} and aggregate_type in ('payment', 'refund')
        ) as net_micro,
        -sum(amount_micro) filter (where account = 'tax_payable') as tax_micro,
        sum(amount_micro) filter (where account = 'discounts') as discount_micro,
        -sum(amount_micro) filter (where account = 'sales') as sales_micro,
        -sum(amount_micro) filter (where account = 'shipping') as shipping_micro,
        sum(amount_micro) filter (where account = 'rounding') as rounding_micro,
        sum(amount_micro) filter (where account = 'clearing' and aggregate_type = 'adjustment') as adjusted_micro,
        max(recorded_at) as last_recorded_at
    from {{ ref('journal') }}
    -- Issuing a gift card sells nothing yet, and one that expires was not spent.
    where aggregate_type <> 'gift_card'
    group by merchant_id, entry_date, currency
),

-- Count orders by their first version and not by journal entries, because a free order has no journal entry. The first
-- version of an order is never edited, like an entry.
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
),

-- An order owes the placed amount minus the cancelled amount. An event (e.g. a restatement) may change both. So the
-- cancelled amount is computed as the difference of two versions, and the placed amount is the remainder.
cancellations as (
    select
        pod,
        valid_from_cut as cut,
        merchant_id,
        currency,
        {{ business_day('if(version = 1, placed_at, occurred_at)') }} as entry_date,
        recorded_at,
        cancelled_minor - coalesce(
            lag(cancelled_minor) over (partition by merchant_id, order_id order by version), 0
        ) as cancelled_minor
    from {{ ref('int_orders_history') }}
    -- Other versions have no cancelled amount, and neither has their previous version.
    where cancelled_minor <> 0 or event_type = 'order_restated'
),

cancelled as (
    select
        merchant_id,
        entry_date as sales_date,
        currency,
        {{ total('cancelled_minor') }} as cancelled_minor,
        max(recorded_at) as last_recorded_at
    from cancellations as facts
    where cancelled_minor <> 0 and {{ is_booked('facts', 'facts.entry_date') }}
    group by merchant_id, sales_date, currency
)

select
    merchant_id,
    sales_date,
    currency,
    coalesce(placed.order_count, 0) as order_count,
    {{ as_minor('owed_micro') }} + coalesce(cancelled.cancelled_minor, 0) as placed_minor,
    coalesce(cancelled.cancelled_minor, 0) as cancelled_minor,
    {{ as_minor('captured_micro') }} as captured_minor,
    {{ as_minor('refunded_micro') }} as refunded_minor,
    {{ as_minor('net_micro') }} as net_minor,
    {{ as_minor('tax_micro') }} as tax_minor,
    {{ as_minor('discount_micro') }} as discount_minor,
    {{ as_minor('adjusted_micro') }} as adjusted_minor,
    cast(coalesce(days.sales_micro, 0) as hugeint) as sales_micro,
    cast(coalesce(days.shipping_micro, 0) as hugeint) as shipping_micro,
    cast(coalesce(days.rounding_micro, 0) as hugeint) as rounding_micro,
    coalesce(days.last_recorded_at, placed.last_recorded_at, cancelled.last_recorded_at) as last_recorded_at
from days
full join placed using (merchant_id, sales_date, currency)
full join cancelled using (merchant_id, sales_date, currency)
