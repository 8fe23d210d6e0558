select
    merchant_id,
    currency,
    account,
    {{ total('if(amount_micro > 0, amount_micro, 0)') }} as debit_micro,
    -{{ total('if(amount_micro < 0, amount_micro, 0)') }} as credit_micro,
    {{ total('amount_micro') }} as balance_micro,
    count(*) as entry_count
from {{ ref('journal') }}
group by merchant_id, currency, account
