-- Merchants whose accounts do not sum to zero.
select
    merchant_id,
    currency,
    sum(balance_micro) as difference_micro
from {{ ref('trial_balance') }}
group by merchant_id, currency
having sum(balance_micro) is distinct from 0
