-- Merchants whose daily sales do not sum to the balances of their accounts.
with days as (
    select
        merchant_id,
        currency,
        sum(net_minor) * {{ micro_per_minor('currency') }} as net_micro,
        sum(tax_minor) * {{ micro_per_minor('currency') }} as tax_micro,
        sum(sales_micro) as sales_micro
    from {{ ref('daily_sales') }}
    group by merchant_id, currency
),

accounts as (
    select
        merchant_id,
        currency,
        sum(if(account in {{ tenders(with_gift_cards=true) }}, balance_micro, 0)) as net_micro,
        -sum(if(account = 'tax_payable', balance_micro, 0)) as tax_micro,
        -sum(if(account = 'sales', balance_micro, 0)) as sales_micro
    from {{ ref('trial_balance') }}
    group by merchant_id, currency
)

select
    merchant_id,
    currency
from days
full join accounts using (merchant_id, currency)
-- An account without entries has a balance of 0, e.g. for a merchant with only free orders.
where
    coalesce(days.net_micro, 0) <> coalesce(accounts.net_micro, 0)
    or coalesce(days.tax_micro, 0) <> coalesce(accounts.tax_micro, 0)
    or coalesce(days.sales_micro, 0) <> coalesce(accounts.sales_micro, 0)
