-- Merchants whose captures minus completed refunds differ from their payments, or from the journal. The journal has no
-- captures that a bank took back.
with payment_sums as (
    select
        merchant_id,
        currency,
        sum(captured_minor) as captured_minor,
        sum(returned_minor) as returned_minor,
        sum(refunded_minor) as refunded_minor
    from {{ ref('payments') }}
    group by merchant_id, currency
),

capture_sums as (
    select
        merchant_id,
        currency,
        sum(amount_minor) as captured_minor
    from {{ ref('payment_captures') }}
    group by merchant_id, currency
),

refund_sums as (
    select
        merchant_id,
        currency,
        sum(refunded_minor) as refunded_minor
    from {{ ref('refunds') }}
    group by merchant_id, currency
),

payables as (
    select
        merchant_id,
        currency,
        captured_minor,
        refunded_minor
    from {{ ref('merchant_payable') }}
)

select
    merchant_id,
    currency
from payment_sums
full join capture_sums using (merchant_id, currency)
full join refund_sums using (merchant_id, currency)
full join payables using (merchant_id, currency)
where
    coalesce(payment_sums.captured_minor, 0) <> coalesce(capture_sums.captured_minor, 0)
    or coalesce(payment_sums.captured_minor - payment_sums.returned_minor, 0) <> coalesce(payables.captured_minor, 0)
    or coalesce(payment_sums.refunded_minor, 0) <> coalesce(refund_sums.refunded_minor, 0)
    or coalesce(payment_sums.refunded_minor, 0) <> coalesce(payables.refunded_minor, 0)
