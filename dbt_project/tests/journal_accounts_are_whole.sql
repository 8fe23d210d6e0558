-- Entries of this build that are not whole minor units, on accounts of charged, paid or owed money.
select
    event_id,
    line_number,
    account,
    amount_micro
from {{ ref('journal') }}
where
    {{ is_added('cut') }}
    and (
        account in ('cash', 'clearing', 'tax_payable', 'merchant_payable', 'merchant_share', 'refunds', 'discounts')
        or account in ('gift_card_liability', 'gift_card_grants', 'gift_card_breakage')
        or account in ('dispute_cash', 'dispute_holds', 'chargebacks', 'dispute_fees', 'merchant_disputes')
        or account = 'unallocated_cash'
    )
    and (amount_micro % {{ micro_per_minor('currency') }}) is distinct from 0
