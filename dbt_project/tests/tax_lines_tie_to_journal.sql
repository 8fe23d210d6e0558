-- Merchants whose sum of tax lines differs from the journal's account tax_payable.
with by_line as (
    select
        merchant_id,
        currency,
        sum(tax_minor) * {{ micro_per_minor('currency') }} as tax_micro
    from {{ ref('tax_lines') }}
    group by merchant_id, currency
),

by_account as (
    select
        merchant_id,
        currency,
        -balance_micro as tax_micro
    from {{ ref('trial_balance') }}
    where account = 'tax_payable'
)

select
    coalesce(by_line.merchant_id, by_account.merchant_id) as merchant_id,
    by_line.tax_micro as line_tax_micro,
    by_account.tax_micro as account_tax_micro
from by_line
full join by_account
    on by_line.merchant_id = by_account.merchant_id and by_line.currency = by_account.currency
where coalesce(by_line.tax_micro, 0) <> coalesce(by_account.tax_micro, 0)
