-- Adjustments of this build for which the journal owes their merchant, or in tax, something else than they say.
with booked as (
    select
        event_id,
        -sum(amount_micro) filter (where account = 'merchant_payable') as payable_micro,
        -sum(amount_micro) filter (where account = 'tax_payable') as tax_micro
    from {{ ref('journal') }}
    where {{ is_added('cut') }} and aggregate_type = 'adjustment'
    group by event_id
)

select
    adjustments.adjustment_id,
    adjustments.pod
from {{ ref('int_adjustments_history') }} as adjustments
left join booked on adjustments.event_id = booked.event_id
where
    {{ is_added('valid_from_cut', 'adjustments') }}
    -- An adjustment is booked once; a later version may only say other words.
    and adjustments.version = 1
    and (
        adjustments.amount_minor * {{ micro_per_minor('adjustments.currency') }} <> coalesce(booked.payable_micro, 0)
        or adjustments.tax_minor * {{ micro_per_minor('adjustments.currency') }} <> coalesce(booked.tax_micro, 0)
    )
