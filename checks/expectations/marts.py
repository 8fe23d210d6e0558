"""What must hold in the marts that finance reads, pod by pod as of the newest complete build.

dbt tests check the rows that a build adds, before anybody reads them. These suites check all rows as they are now, so
they also find rows that were edited later. Each suite's `adds` says what only that suite checks.

Belongs here: suites over the warehouse. To add an expectation, add a line. Does not belong here: dbt tests
(dbt_project/), comparisons with operations (`reconcile/finance_pairs.py`).
"""

from __future__ import annotations

from checks.expectations.declared import at_least, holds, never_null, no_rows, one_of, suite_of, unique
from contracts.events.order import LineKind, OrderStatus
from contracts.events.payment import PaymentStatus
from contracts.events.refund import RefundStatus
from contracts.money import CURRENCY_EXPONENTS, micro_per_minor_sql

CURRENCIES = tuple(CURRENCY_EXPONENTS)
PER_MINOR = micro_per_minor_sql("t.currency", "hugeint")
ACCOUNTS = (
    "adjustments",
    "cash",
    "chargebacks",
    "clearing",
    "customer_deposits",
    "discounts",
    "dispute_cash",
    "dispute_fees",
    "dispute_holds",
    "gift_card_breakage",
    "gift_card_grants",
    "gift_card_liability",
    "merchant_disputes",
    "merchant_payable",
    "merchant_share",
    "refunds",
    "rounding",
    "sales",
    "shipping",
    "tax_payable",
    "unallocated_cash",
)
MOVEMENTS = ("charged", "cancelled", "refunded", "adjusted")

ORDERS = suite_of(
    "lake.marts.orders",
    ("order_id",),
    "The whole mart, not only a build's new rows; times that run backwards.",
    *never_null("order_id", "merchant_id", "order_number", "currency", "status", "order_date", "net_minor"),
    unique("merchant_id", "order_number"),
    one_of("status", OrderStatus),
    one_of("currency", CURRENCIES),
    *at_least(0, "total_minor", "tax_minor", "cancelled_minor", "net_minor"),
    holds(
        "total_is_its_parts",
        "The total is lines less discount plus added tax plus shipping, and net is what was not cancelled of it.",
        "t.total_minor = t.lines_minor - t.discount_minor + t.added_tax_minor + t.shipping_minor "
        "and t.net_minor = t.total_minor - t.cancelled_minor",
        "total_minor",
        "net_minor",
    ),
    holds(
        "is_recorded_after_it_was_placed",
        "The newest change of an order is not earlier than the order.",
        "t.changed_at >= t.placed_at",
        "placed_at",
        "changed_at",
    ),
)

ORDER_LINES = suite_of(
    "lake.marts.order_lines",
    ("order_line_id",),
    "Whether the tax is what the rate gives; lines without their order.",
    *never_null("order_line_id", "order_id", "merchant_id", "currency", "jurisdiction", "rate_ppm", "order_date"),
    one_of("kind", LineKind),
    *at_least(1, "quantity", "line_number"),
    *at_least(0, "amount_minor", "discount_minor", "taxable_minor", "tax_minor", "total_minor"),
    no_rows(
        "tax_is_what_its_rate_gives",
        "The tax of a line is what its rate gives on its amount after discount, each tax rounded once.",
        """select t.order_line_id, t.rate_ppm, t.taxable_minor, t.tax_minor from t
           left join (
               select order_line_id, count(*) as taxes from lake.marts.tax_lines where movement = 'charged'
               group by order_line_id having count(*) > 1
           ) as several on several.order_line_id = t.order_line_id
           where (t.taxable_minor + t.tax_minor = t.total_minor
                  and 2 * abs(t.tax_minor * 1000000::hugeint - t.taxable_minor * t.rate_ppm::hugeint)
                      <= case when t.is_tax_inclusive then 1000000 + t.rate_ppm
                              else 1000000 * coalesce(several.taxes, 1) end) is not true""",
    ),
    no_rows(
        "totals_are_those_of_the_order",
        "The lines of an order sum to its total, and every line has its order.",
        """select l.order_id as order_line_id, l.total_minor, o.total_minor as order_total_minor
           from (select order_id, sum(total_minor) as total_minor from t group by order_id) as l
           full join lake.marts.orders as o on o.order_id = l.order_id
           where l.total_minor is distinct from o.total_minor""",
    ),
)

PAYMENTS = suite_of(
    "lake.marts.payments",
    ("payment_id",),
    "The whole mart; payments of no order, or in another currency than it.",
    *never_null("payment_id", "order_id", "merchant_id", "currency", "status", "authorized_date"),
    one_of("status", PaymentStatus),
    *at_least(0, "authorized_minor", "captured_minor", "refunded_minor", "released_minor"),
    *at_least(0, "disputed_minor", "charged_back_minor", "dispute_fee_minor"),
    *at_least(0, "returned_minor", "return_fee_minor", "unallocated_minor"),
    holds(
        "limits_are_kept",
        "Refunded is no more than captured, and neither is what was disputed and returned; captured and released "
        "are no more than authorized; net is captured less returned and refunded.",
        "t.refunded_minor <= t.captured_minor and t.captured_minor + t.released_minor <= t.authorized_minor "
        "and t.disputed_minor + t.charged_back_minor + t.returned_minor <= t.captured_minor "
        "and t.net_minor = t.captured_minor - t.returned_minor - t.refunded_minor",
        "authorized_minor",
        "captured_minor",
        "refunded_minor",
    ),
    no_rows(
        "belongs_to_its_order",
        "A payment has its order's merchant and currency.",
        """select t.payment_id, t.order_id, t.currency from t
           left join lake.marts.orders as o on o.order_id = t.order_id
           where o.merchant_id is distinct from t.merchant_id or o.currency is distinct from t.currency""",
    ),
)

REFUNDS = suite_of(
    "lake.marts.refunds",
    ("refund_id",),
    "The whole mart; a payment's refunds together, which no row shows.",
    *never_null("refund_id", "payment_id", "order_id", "merchant_id", "currency", "status"),
    one_of("status", RefundStatus),
    *at_least(0, "amount_minor", "tax_minor"),
    holds(
        "counts_when_it_is_completed",
        "A refund counts with its amount when it is completed, and then has a day; else it counts nothing.",
        "case when t.status = 'completed' then t.refunded_minor = t.amount_minor and t.refund_date is not null "
        "else t.refunded_minor = 0 end",
        "status",
        "amount_minor",
        "refunded_minor",
    ),
    no_rows(
        "payments_are_not_given_back_twice",
        "The completed refunds of a payment sum to what the payment says was given back.",
        """select min(t.refund_id) as refund_id, p.payment_id, sum(t.refunded_minor) as refunded_minor,
                  min(p.refunded_minor) as payment_refunded_minor
           from lake.marts.payments as p left join t on t.payment_id = p.payment_id
           group by p.payment_id
           having coalesce(sum(t.refunded_minor), 0) is distinct from min(p.refunded_minor)""",
    ),
)

TAX_LINES = suite_of(
    "lake.marts.tax_lines",
    ("event_id", "movement", "source_line_id", "jurisdiction"),
    "Whether every line was charged exactly once, and no line gave back more tax than it was charged.",
    *never_null("event_id", "movement", "merchant_id", "currency", "jurisdiction", "tax_date"),
    one_of("movement", MOVEMENTS),
    holds(
        "has_the_sign_of_its_movement",
        "What is charged adds tax, what is cancelled takes it back; so does a refund, until it fails.",
        "case t.movement when 'charged' then t.tax_minor >= 0 when 'cancelled' then t.tax_minor <= 0 else true end",
        "tax_minor",
    ),
    holds(
        "has_the_line_of_its_order",
        "Every movement is of an order line, but that of an adjustment.",
        "(t.order_line_id is null) = (t.movement = 'adjusted')",
        "order_line_id",
    ),
    no_rows(
        "is_given_back_no_less_than_nothing",
        "The movements of a refunded line take tax back, or sum to nothing when the refund has failed.",
        """select min(t.event_id) as event_id, 'refunded' as movement, t.source_line_id, t.jurisdiction,
                  sum(t.tax_minor) as tax_minor, sum(t.taxable_minor) as taxable_minor
           from t where t.movement = 'refunded' group by t.source_line_id, t.jurisdiction
           having sum(t.tax_minor) > 0 or sum(t.taxable_minor) > 0""",
    ),
    no_rows(
        "is_charged_once_and_not_given_back_twice",
        "A line is charged once for each of its taxes, and no more is taken back of a tax than was charged.",
        """select min(t.event_id) as event_id, 'charged' as movement, t.order_line_id as source_line_id,
                  t.jurisdiction, count(*) filter (where t.movement = 'charged') as times_charged,
                  sum(t.tax_minor) as tax_minor
           from t where t.movement <> 'adjusted' group by t.order_line_id, t.jurisdiction
           having times_charged <> 1 or sum(t.tax_minor) < 0""",
    ),
)

JOURNAL = suite_of(
    "lake.marts.journal",
    ("event_id", "line_number"),
    "The whole journal: dbt tests sum the events of a build.",
    *never_null("event_id", "line_number", "merchant_id", "currency", "account", "amount_micro", "entry_date"),
    one_of("account", ACCOUNTS),
    one_of("currency", CURRENCIES),
    holds("books_something", "An entry is not of 0.", "t.amount_micro <> 0"),
    no_rows(
        "events_sum_to_zero",
        "The entries of an event sum to zero, in one currency, for one merchant.",
        """select t.event_id, min(t.line_number) as line_number, sum(t.amount_micro) as difference_micro
           from t group by t.event_id
           having sum(t.amount_micro) <> 0
               or count(distinct t.currency) > 1 or count(distinct t.merchant_id) > 1""",
    ),
    holds(
        "money_is_whole",
        "Accounts of what is charged, paid or owed hold whole minor units; only rounding and sales have fractions.",
        "t.account not in ('cash', 'clearing', 'tax_payable', 'merchant_payable', 'merchant_share', 'refunds', "
        "'discounts', 'gift_card_liability', 'gift_card_grants', 'gift_card_breakage', 'dispute_cash', "
        f"'dispute_holds', 'chargebacks', 'dispute_fees', 'merchant_disputes', 'unallocated_cash') "
        f"or t.amount_micro % {PER_MINOR} = 0",
        "account",
        "amount_micro",
    ),
)

DAILY_SALES = suite_of(
    "lake.marts.daily_sales",
    ("merchant_id", "sales_date", "currency"),
    "Days against the payments and refunds themselves, not only against the journal they come from.",
    *never_null("merchant_id", "sales_date", "currency", "order_count", "net_minor", "last_recorded_at"),
    one_of("currency", CURRENCIES),
    *at_least(0, "order_count", "placed_minor", "discount_minor"),
    holds(
        "net_is_captured_less_refunded",
        "Net is captured less refunded.",
        "t.net_minor = t.captured_minor - t.refunded_minor",
        "captured_minor",
        "refunded_minor",
        "net_minor",
    ),
    no_rows(
        "orders_of_the_days_are_the_orders",
        "Number and total of the orders placed on a day are those of the mart orders.",
        """with days as (
               select merchant_id, order_date as sales_date, currency, count(*) as order_count,
                      sum(total_minor) as placed_minor
               from lake.marts.orders group by all
           )
           select coalesce(t.merchant_id, d.merchant_id) as merchant_id,
                  cast(coalesce(t.sales_date, d.sales_date) as varchar) as sales_date,
                  coalesce(t.currency, d.currency) as currency, t.order_count, d.order_count as orders,
                  t.placed_minor, d.placed_minor as orders_minor
           from t full join days as d
             on d.merchant_id = t.merchant_id and d.sales_date = t.sales_date and d.currency = t.currency
           where coalesce(t.order_count, 0) <> coalesce(d.order_count, 0)
              or coalesce(t.placed_minor, 0) <> coalesce(d.placed_minor, 0)""",
    ),
    no_rows(
        "days_sum_to_the_payments",
        "A merchant's days sum to what its payments captured and kept, and its completed refunds gave back.",
        """with days as (
               select merchant_id, currency, sum(captured_minor) as captured_minor,
                      sum(refunded_minor) as refunded_minor
               from t group by all
           ), paid as (
               select merchant_id, currency, sum(captured_minor - returned_minor) as captured_minor,
                      sum(refunded_minor) as refunded_minor
               from lake.marts.payments group by all
           )
           select coalesce(d.merchant_id, p.merchant_id) as merchant_id, null as sales_date,
                  coalesce(d.currency, p.currency) as currency, d.captured_minor,
                  p.captured_minor as payments_minor, d.refunded_minor, p.refunded_minor as refunds_minor
           from days as d full join paid as p on p.merchant_id = d.merchant_id and p.currency = d.currency
           where coalesce(d.captured_minor, 0) <> coalesce(p.captured_minor, 0)
              or coalesce(d.refunded_minor, 0) <> coalesce(p.refunded_minor, 0)""",
    ),
)

MERCHANT_PAYABLE = suite_of(
    "lake.marts.merchant_payable",
    ("merchant_id", "currency"),
    "What is owed against the account it is booked on.",
    *never_null("merchant_id", "currency", "payable_minor", "last_entry_date"),
    one_of("currency", CURRENCIES),
    *at_least(0, "captured_minor", "refunded_minor"),
    holds(
        "payable_is_its_parts",
        "What is owed is captured less refunded plus adjusted less disputed.",
        "t.payable_minor = t.captured_minor - t.refunded_minor + t.adjusted_minor - t.disputed_minor",
        "payable_minor",
    ),
    no_rows(
        "payable_is_the_balance_of_its_account",
        "What is owed is the balance of the accounts merchant_payable and merchant_disputes.",
        f"""with accounts as (
                select merchant_id, currency, -sum(balance_micro) as payable_micro from lake.marts.trial_balance
                where account in ('merchant_payable', 'merchant_disputes')
                group by merchant_id, currency
            )
            select coalesce(t.merchant_id, a.merchant_id) as merchant_id,
                   coalesce(t.currency, a.currency) as currency, t.payable_minor, a.payable_micro
            from t full join accounts as a
              on a.merchant_id = t.merchant_id and a.currency = t.currency
            where t.payable_minor * {PER_MINOR} is distinct from a.payable_micro""",
    ),
)

TRIAL_BALANCE = suite_of(
    "lake.marts.trial_balance",
    ("merchant_id", "currency", "account"),
    "The accounts against the entries, counted again.",
    *never_null("merchant_id", "currency", "account", "debit_micro", "credit_micro", "balance_micro"),
    one_of("account", ACCOUNTS),
    *at_least(0, "debit_micro", "credit_micro"),
    *at_least(1, "entry_count"),
    holds(
        "balance_is_debits_less_credits",
        "The balance is debits less credits.",
        "t.balance_micro = t.debit_micro - t.credit_micro",
        "balance_micro",
    ),
    no_rows(
        "merchants_sum_to_zero",
        "The balances of a merchant sum to zero in each currency.",
        """select t.merchant_id, t.currency, null as account, sum(t.balance_micro) as difference_micro
           from t group by t.merchant_id, t.currency having sum(t.balance_micro) <> 0""",
    ),
)

SUITES = (
    ORDERS,
    ORDER_LINES,
    PAYMENTS,
    REFUNDS,
    TAX_LINES,
    JOURNAL,
    DAILY_SALES,
    MERCHANT_PAYABLE,
    TRIAL_BALANCE,
)
"""Every suite over the marts that finance reads."""
