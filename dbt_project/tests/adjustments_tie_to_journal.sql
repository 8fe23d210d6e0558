-- Adjustments of this build whose amount or tax differs from the journal's entries for them.
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
    -- Only version 1 books an adjustment; a later version may change only texts.
    and adjustments.version = 1
    and (
        adjustments.amount_minor * {{ micro_per_minor('adjustments.currency') }} <> coalesce(booked.payable_micro, 0)
        or adjustments.tax_minor * {{ micro_per_minor('adjustments.currency') }} <> coalesce(booked.tax_micro, 0)
    )
