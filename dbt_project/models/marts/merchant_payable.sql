with payables as (
    select
        merchant_id,
        currency,
        -sum(amount_micro) filter (
            where aggregate_type = 'payment' and account = 'merchant_payable'
        ) as captured_micro,
        sum(amount_micro) filter (where aggregate_type = 'refund') as refunded_micro,
        -sum(amount_micro) filter (where aggregate_type = 'adjustment') as adjusted_micro,
        coalesce(sum(amount_micro) filter (where account = 'merchant_disputes'), 0) as disputed_micro,
        -sum(amount_micro) as payable_micro,
        max(entry_date) as last_entry_date,
        max(recorded_at) as last_recorded_at
    from {{ ref('journal') }}
    where account in ('merchant_payable', 'merchant_disputes')
    group by merchant_id, currency
)

select
    merchant_id,
    currency,
    {{ as_minor('captured_micro') }} as captured_minor,
    {{ as_minor('refunded_micro') }} as refunded_minor,
    {{ as_minor('adjusted_micro') }} as adjusted_minor,
    {{ as_minor('disputed_micro') }} as disputed_minor,
    {{ as_minor('payable_micro') }} as payable_minor,
    last_entry_date,
    last_recorded_at
from payables
