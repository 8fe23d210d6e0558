{% set vector = cut_vector() %}
-- Double entry as a difference of balances: the balance that a version of an aggregate puts on an account, minus the
-- balance of the previous version. Debits are positive. A version's balances sum to zero, so the entries of its event
-- do too. An amount is the sum of `minor` (whole minor units) and `micro` (micro-units); models/marts/journal.md has
-- the table of accounts.
with order_versions as (
    {{ changed_versions(ref('int_orders_history'), vector) }}
),

payment_versions as (
    {{ changed_versions(ref('int_payments_history'), vector) }}
),

refund_versions as (
    {{ changed_versions(ref('int_refunds_history'), vector) }}
),

adjustment_versions as (
    {{ changed_versions(ref('int_adjustments_history'), vector) }}
),

gift_card_versions as (
    {{ changed_versions(ref('int_gift_cards_history'), vector) }}
),

-- A refund that is requested or that failed has moved no money, also after it was completed.
refund_moneys as (
    select
        *,
        if(status = 'completed', amount_minor, 0) as moved_minor,
        if(status = 'completed', tax_minor, 0) as moved_tax_minor,
        if(
            status = 'completed',
            coalesce(list_sum(list_transform(
                lines,
                lambda line: if(line.tax_category = {{ deposit_tax_category() }}, line.amount_minor - line.tax_minor, 0)
            )), 0),
            0
        ) as moved_deposit_minor
    from refund_versions
),

-- What a bank took back is not paid any more. Fees of disputes and returns are borne like lost disputes.
payment_moneys as (
    select
        *,
        captured_minor - returned_minor as paid_minor,
        dispute_fee_minor + return_fee_minor as fee_minor,
        charged_back_minor + dispute_fee_minor + return_fee_minor as borne_minor
    from payment_versions
),

order_lines as (
    select
        pod,
        event_id,
        unnest(lines) as line
    from order_versions
),

order_line_revenues as (
    select
        pod,
        event_id,
        case
            when line.tax_category = {{ deposit_tax_category() }} then 'customer_deposits'
            when line.kind = 'shipping' then 'shipping'
            else 'sales'
        end as account,
        line.total_minor - line.cancelled_minor as owed_minor,
        line.discount_minor,
        line.tax_minor - line.cancelled_tax_minor as tax_minor,
        line.rounding_micro,
        -- Tax contained in the price is not revenue; the cancelled amount without its tax is no revenue any more.
        line.amount_minor
        - if(line.is_tax_inclusive, line.tax_minor, 0)
        - (line.cancelled_minor - line.cancelled_tax_minor) as revenue_minor
    from order_lines
),

order_sums as (
    select
        pod,
        event_id,
        sum(owed_minor) as owed_minor,
        sum(discount_minor) as discount_minor,
        sum(tax_minor) as tax_minor,
        sum(rounding_micro) as rounding_micro,
        sum(if(account = 'sales', revenue_minor, 0)) as sales_minor,
        sum(if(account = 'sales', rounding_micro, 0)) as sales_micro,
        sum(if(account = 'shipping', revenue_minor, 0)) as shipping_minor,
        sum(if(account = 'shipping', rounding_micro, 0)) as shipping_micro,
        sum(if(account = 'customer_deposits', revenue_minor, 0)) as deposit_minor,
        sum(if(account = 'customer_deposits', rounding_micro, 0)) as deposit_micro
    from order_line_revenues
    group by pod, event_id
),

order_balances as (
    select
        versions.pod,
        versions.valid_from_cut as cut,
        versions.event_id,
        versions.event_type,
        'order' as aggregate_type,
        versions.order_id as aggregate_id,
        versions.version,
        versions.order_id,
        versions.merchant_id,
        versions.currency,
        if(versions.version = 1, versions.placed_at, versions.occurred_at) as booked_at,
        versions.recorded_at,
        versions.is_new,
        [
            {'line_number': 1, 'account': 'clearing', 'minor': sums.owed_minor, 'micro': 0},
            {'line_number': 2, 'account': 'discounts', 'minor': sums.discount_minor, 'micro': 0},
            {'line_number': 3, 'account': 'sales', 'minor': -sums.sales_minor, 'micro': -sums.sales_micro},
            {'line_number': 4, 'account': 'shipping', 'minor': -sums.shipping_minor, 'micro': -sums.shipping_micro},
            {'line_number': 5, 'account': 'tax_payable', 'minor': -sums.tax_minor, 'micro': 0},
            {'line_number': 6, 'account': 'rounding', 'minor': 0, 'micro': sums.rounding_micro},
            {
                'line_number': 7,
                'account': 'customer_deposits',
                'minor': -sums.deposit_minor,
                'micro': -sums.deposit_micro
            }
        ] as balances
    from order_versions as versions
    inner join order_sums as sums
        on versions.pod = sums.pod and versions.event_id = sums.event_id
),

payment_balances as (
    select
        pod,
        valid_from_cut as cut,
        event_id,
        event_type,
        'payment' as aggregate_type,
        payment_id as aggregate_id,
        version,
        order_id,
        merchant_id,
        currency,
        occurred_at as booked_at,
        recorded_at,
        is_new,
        [
            {'line_number': 1, 'account': 'cash', 'minor': if(gift_card_id is null, paid_minor, 0), 'micro': 0},
            {'line_number': 2, 'account': 'clearing', 'minor': -paid_minor, 'micro': 0},
            {'line_number': 3, 'account': 'merchant_share', 'minor': paid_minor - borne_minor, 'micro': 0},
            {'line_number': 4, 'account': 'merchant_payable', 'minor': -paid_minor, 'micro': 0},
            {
                'line_number': 5,
                'account': 'gift_card_liability',
                'minor': if(gift_card_id is null, 0, paid_minor),
                'micro': 0
            },
            {'line_number': 6, 'account': 'dispute_cash', 'minor': -(disputed_minor + borne_minor), 'micro': 0},
            {'line_number': 7, 'account': 'dispute_holds', 'minor': disputed_minor, 'micro': 0},
            {'line_number': 8, 'account': 'chargebacks', 'minor': charged_back_minor, 'micro': 0},
            {'line_number': 9, 'account': 'dispute_fees', 'minor': fee_minor, 'micro': 0},
            {'line_number': 10, 'account': 'merchant_disputes', 'minor': borne_minor, 'micro': 0},
            {'line_number': 11, 'account': 'unallocated_cash', 'minor': unallocated_minor, 'micro': 0},
            {'line_number': 12, 'account': 'customer_deposits', 'minor': -unallocated_minor, 'micro': 0}
        ] as balances
    from payment_moneys
),

refund_balances as (
    select
        pod,
        valid_from_cut as cut,
        event_id,
        event_type,
        'refund' as aggregate_type,
        refund_id as aggregate_id,
        version,
        order_id,
        merchant_id,
        currency,
        -- One that failed after it was completed takes its money back on the day when it failed.
        coalesce(failed_at, completed_at, occurred_at) as booked_at,
        recorded_at,
        is_new,
        [
            {
                'line_number': 1,
                'account': 'refunds',
                'minor': moved_minor - moved_tax_minor - moved_deposit_minor,
                'micro': 0
            },
            {'line_number': 2, 'account': 'tax_payable', 'minor': moved_tax_minor, 'micro': 0},
            {'line_number': 3, 'account': 'cash', 'minor': if(gift_card_id is null, -moved_minor, 0), 'micro': 0},
            {'line_number': 4, 'account': 'merchant_payable', 'minor': moved_minor, 'micro': 0},
            {'line_number': 5, 'account': 'merchant_share', 'minor': -moved_minor, 'micro': 0},
            {'line_number': 6, 'account': 'customer_deposits', 'minor': moved_deposit_minor, 'micro': 0},
            {
                'line_number': 7,
                'account': 'gift_card_liability',
                'minor': if(gift_card_id is null, 0, -moved_minor),
                'micro': 0
            }
        ] as balances
    from refund_moneys
),

adjustment_balances as (
    select
        pod,
        valid_from_cut as cut,
        event_id,
        event_type,
        'adjustment' as aggregate_type,
        adjustment_id as aggregate_id,
        version,
        cast(null as varchar) as order_id,
        merchant_id,
        currency,
        adjusted_at as booked_at,
        recorded_at,
        is_new,
        [
            {'line_number': 1, 'account': 'clearing', 'minor': amount_minor, 'micro': 0},
            {'line_number': 2, 'account': 'adjustments', 'minor': tax_minor - amount_minor, 'micro': -rounding_micro},
            {'line_number': 3, 'account': 'rounding', 'minor': 0, 'micro': rounding_micro},
            {'line_number': 4, 'account': 'merchant_share', 'minor': amount_minor, 'micro': 0},
            {'line_number': 5, 'account': 'merchant_payable', 'minor': -amount_minor, 'micro': 0},
            {'line_number': 6, 'account': 'tax_payable', 'minor': -tax_minor, 'micro': 0}
        ] as balances
    from adjustment_versions
),

-- What is spent of a card, and what is paid back onto it, is booked with the payment and the refund.
gift_card_balances as (
    select
        pod,
        valid_from_cut as cut,
        event_id,
        event_type,
        'gift_card' as aggregate_type,
        gift_card_id as aggregate_id,
        version,
        cast(null as varchar) as order_id,
        merchant_id,
        currency,
        occurred_at as booked_at,
        recorded_at,
        is_new,
        [
            {'line_number': 1, 'account': 'cash', 'minor': if(funding = 'sold', issued_minor, 0), 'micro': 0},
            {
                'line_number': 2,
                'account': 'gift_card_grants',
                'minor': if(funding = 'granted', issued_minor, 0),
                'micro': 0
            },
            {
                'line_number': 3,
                'account': 'gift_card_liability',
                'minor': expired_minor - issued_minor,
                'micro': 0
            },
            {'line_number': 4, 'account': 'gift_card_breakage', 'minor': -expired_minor, 'micro': 0}
        ] as balances
    from gift_card_versions
),

aggregate_balances as (
    select * from order_balances
    union all
    select * from payment_balances
    union all
    select * from refund_balances
    union all
    select * from adjustment_balances
    union all
    select * from gift_card_balances
),

account_balances as (
    select
        * exclude (balances),
        unnest(balances) as balance
    from aggregate_balances
),

amounts as (
    select
        * exclude (balance),
        balance.line_number,
        balance.account,
        balance.minor * {{ micro_per_minor('currency') }} + balance.micro as balance_micro
    from account_balances
),

entries as (
    select
        * exclude (balance_micro),
        balance_micro - coalesce(
            lag(balance_micro) over (
                partition by merchant_id, aggregate_type, aggregate_id, account
                order by version
            ),
            0
        ) as amount_micro
    from amounts
)

select
    pod,
    cut,
    event_id,
    cast(line_number as integer) as line_number,
    merchant_id,
    currency,
    account,
    cast(amount_micro as bigint) as amount_micro,
    {{ business_day('booked_at') }} as entry_date,
    event_type,
    aggregate_type,
    aggregate_id,
    version,
    order_id,
    booked_at,
    recorded_at
from entries
where is_new and amount_micro is distinct from 0
order by cut, event_id, line_number
