"""What must hold in a pod's own tables of payments and refunds.

Belongs here: their suites, as in `oltp.py`. Does not belong here: all other tables.
"""

from __future__ import annotations

from checks.expectations.declared import at_least, holds, never_null, no_rows, one_of, suite_of
from contracts.money import CURRENCY_EXPONENTS
from oltp.domain.transitions import PAYMENT_TRANSITIONS, REFUND_TRANSITIONS

CURRENCIES = tuple(CURRENCY_EXPONENTS)

PAYMENTS = suite_of(
    "oltp.payments",
    ("payment_id",),
    "Payments in another currency, of another merchant or customer than their order's; captures before the "
    "authorization.",
    *never_null("payment_id", "order_id", "merchant_id", "currency", "status", "provider_reference"),
    one_of("status", PAYMENT_TRANSITIONS),
    one_of("currency", CURRENCIES),
    *at_least(0, "authorized_minor", "captured_minor", "refunded_minor", "released_minor"),
    *at_least(0, "disputed_minor", "charged_back_minor", "dispute_fee_minor"),
    *at_least(0, "returned_minor", "return_fee_minor", "unallocated_minor"),
    holds(
        "limits_are_kept",
        "Refunded is no more than captured, and neither is what was disputed and returned; captured and released "
        "are no more than authorized.",
        "t.refunded_minor <= t.captured_minor and t.captured_minor + t.released_minor <= t.authorized_minor "
        "and t.disputed_minor + t.charged_back_minor + t.returned_minor <= t.captured_minor",
        "authorized_minor",
        "captured_minor",
        "refunded_minor",
    ),
    holds(
        "only_what_is_captured_has_money",
        "Money was taken of captured payments only.",
        "t.captured_minor = 0 or t.status = 'captured'",
        "status",
        "captured_minor",
    ),
    no_rows(
        "belongs_to_its_order",
        "A payment has its order's merchant, customer and currency.",
        """select cast(t.payment_id as varchar) as payment_id, t.merchant_id, t.currency
           from t left join oltp.orders as o on o.order_id = t.order_id
           where o.merchant_id is distinct from t.merchant_id or o.currency is distinct from t.currency
              or o.customer_id is distinct from t.customer_id""",
    ),
    no_rows(
        "captured_is_the_sum_of_its_captures",
        "Captured is the sum of the captures, none of which is earlier than the authorization.",
        """select cast(t.payment_id as varchar) as payment_id, t.captured_minor, c.captured_minor as captures_minor
           from t left join (
               select payment_id, sum(amount_minor) as captured_minor, min(captured_at) as first_at
               from oltp.payment_captures group by payment_id
           ) as c on c.payment_id = t.payment_id
           where coalesce(c.captured_minor, 0) is distinct from t.captured_minor or c.first_at < t.authorized_at""",
    ),
    no_rows(
        "disputed_is_the_sum_of_its_disputes",
        "What is held, lost and kept as fees is the sum of the disputes.",
        """select cast(t.payment_id as varchar) as payment_id, t.disputed_minor, t.charged_back_minor,
                  t.dispute_fee_minor
           from t left join (
               select payment_id, sum(amount_minor) filter (where status = 'opened') as held_minor,
                      sum(amount_minor) filter (where status = 'lost') as lost_minor, sum(fee_minor) as fee_minor
               from oltp.payment_disputes group by payment_id
           ) as d on d.payment_id = t.payment_id
           where coalesce(d.held_minor, 0) <> t.disputed_minor or coalesce(d.lost_minor, 0) <> t.charged_back_minor
              or coalesce(d.fee_minor, 0) <> t.dispute_fee_minor""",
    ),
    no_rows(
        "moved_is_the_sum_of_its_movements",
        "What banks took back, their fees, and what is unallocated are the sums of the movements.",
        """select cast(t.payment_id as varchar) as payment_id, t.returned_minor, t.return_fee_minor,
                  t.unallocated_minor
           from t left join (
               select payment_id, sum(amount_minor) filter (where kind = 'returned') as returned_minor,
                      sum(fee_minor) as fee_minor,
                      coalesce(sum(amount_minor) filter (where kind = 'unallocated'), 0)
                      - coalesce(sum(amount_minor) filter (where kind = 'given_back'), 0) as left_minor
               from oltp.payment_movements group by payment_id
           ) as m on m.payment_id = t.payment_id
           where coalesce(m.returned_minor, 0) <> t.returned_minor or coalesce(m.fee_minor, 0) <> t.return_fee_minor
              or coalesce(m.left_minor, 0) <> t.unallocated_minor""",
    ),
    holds(
        "what_is_waited_for_is_open",
        "Money is waited for as long as a pending payment, or the rest of a captured one, has an end.",
        "case when t.expires_at is null then t.status <> 'pending' else t.status in ('pending', 'captured') "
        "and t.captured_minor + t.released_minor < t.authorized_minor end",
        "status",
        "expires_at",
    ),
    asset="payment",
)

REFUNDS = suite_of(
    "oltp.refunds",
    ("refund_id",),
    "Refunds in another currency than what they give back, and completed before they were requested.",
    *never_null("refund_id", "payment_id", "order_id", "merchant_id", "currency", "status", "requested_at"),
    one_of("status", REFUND_TRANSITIONS),
    one_of("currency", CURRENCIES),
    *at_least(0, "amount_minor", "tax_minor"),
    holds(
        "tax_is_within_amount",
        "The tax in a refund is no more than the refund.",
        "t.tax_minor <= t.amount_minor",
        "amount_minor",
        "tax_minor",
    ),
    holds(
        "is_completed_when_it_says_so",
        "A refund has the moment of its completion when it is completed, also if it failed later.",
        "case t.status when 'failed' then t.completed_at is null or t.failed_at >= t.completed_at "
        "else t.failed_at is null and (t.status = 'completed') = (t.completed_at is not null) end "
        "and coalesce(t.completed_at, t.requested_at) >= t.requested_at",
        "status",
        "requested_at",
        "completed_at",
        "failed_at",
    ),
    no_rows(
        "gives_back_what_was_paid",
        "A refund is in its payment's currency, of the payment's order, and has the amount of its lines.",
        """select cast(t.refund_id as varchar) as refund_id, t.currency, t.amount_minor,
                  l.amount_minor as lines_minor
           from t
           left join oltp.payments as p on p.payment_id = t.payment_id
           left join (
               select refund_id, sum(amount_minor) as amount_minor, sum(tax_minor) as tax_minor
               from oltp.refund_lines group by refund_id
           ) as l on l.refund_id = t.refund_id
           where p.currency is distinct from t.currency or p.order_id is distinct from t.order_id
              or l.amount_minor is distinct from t.amount_minor or l.tax_minor is distinct from t.tax_minor""",
    ),
    asset="refund",
)
