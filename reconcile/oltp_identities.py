"""Figures of OLTP that must agree with each other: totals with their parts, and amounts with their limits.

The database enforces the same rules at every commit. This comparison finds rows that were written with triggers
disabled, by a restore, or before a rule existed. Such an error is in the owner itself, so people correct it, never
code.

Belongs here: those identities as SQL over OLTP at a cut. Does not belong here: copies (`reconcile/lake_pairs.py`).
"""

from __future__ import annotations

from contracts.ids import aggregate_key
from contracts.money import micro_per_minor_sql
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass
from reconcile.compare import Outcome
from reconcile.entities import AGGREGATE_ID
from reconcile.identity import Identity, of_line, sum_of_parts
from reconcile.movement_identities import MOVEMENT_IDENTITIES
from reconcile.oltp_side import left_name
from reconcile.pair import Findings, Pair, PodRun, Stage
from reconcile.scratch import table
from reconcile.shapes import HUGEINT
from reconcile.tax_identities import TAX_IDENTITIES

TYPES = ("order", "payment", "refund", "fulfillment", "reservation", "merchant", "adjustment", "gift_card")
ENTITIES = (
    "merchants",
    "orders",
    "order_lines",
    "order_discounts",
    "order_line_taxes",
    "payments",
    "payment_captures",
    "payment_disputes",
    "payment_movements",
    "refunds",
    "refund_lines",
    "refund_line_taxes",
    "fulfillment_lines",
    "reservations",
    "reservation_lines",
    "adjustments",
    "adjustment_taxes",
    "gift_cards",
)


def _order_total(column: str, amount: str) -> Identity:
    """Return the identity: an order's figure is the sum over its lines."""
    return sum_of_parts("orders", "order", column, "order_lines", amount)


def _of_payment(name: str, expected: str, actual: str, *, is_limit: bool = False) -> Identity:
    """Return an identity, or a limit, of a payment's figure and its refunds.

    `completed_minor` is the sum of its completed refunds; `given_minor` also includes its requested ones.
    """
    return Identity(
        name=name,
        aggregate_type="payment",
        is_limit=is_limit,
        rows=f"""
            select p.{AGGREGATE_ID}, p.merchant_id, p.currency, {expected} as expected, {actual} as actual
            from {{payments}} as p left join (
                select payment_id, sum(amount_minor) filter (where status = 'completed') as completed_minor,
                       sum(amount_minor) filter (where status <> 'failed') as given_minor
                from {{refunds}} group by payment_id
            ) as r on r.payment_id = p.{AGGREGATE_ID}""",
    )


def _of_gift_card(name: str, rows: str, amount: str, condition: str) -> Identity:
    """A gift card's figure is the sum over the payments with it, or the refunds onto it, in its currency."""
    return Identity(
        name=name,
        aggregate_type="gift_card",
        rows=f"""
            select c.{AGGREGATE_ID}, c.merchant_id, c.currency, coalesce(r.moved_minor, 0) as expected,
                   c.{name} as actual
            from {{gift_cards}} as c left join (
                select gift_card_id, merchant_id, currency, sum({amount}) as moved_minor
                from {{{rows}}} where gift_card_id is not null and {condition} group by all
            ) as r
            on r.gift_card_id = c.{AGGREGATE_ID} and r.merchant_id = c.merchant_id and r.currency = c.currency""",
    )


def _of_another_currency(aggregate_type: str, rows: str, reference: str, referred: str) -> Identity:
    """Return the identity: a payment has its order's currency, a refund its payment's; `actual` 1: it has not."""
    return Identity(
        name="other_currency",
        aggregate_type=aggregate_type,
        rows=f"""
            select r.{AGGREGATE_ID}, r.merchant_id, r.currency, 0 as expected,
                   if(r.currency is distinct from o.currency, 1, 0) as actual
            from {{{rows}}} as r join {{{referred}}} as o on o.{AGGREGATE_ID} = r.{reference}""",
    )


def _must(name: str, aggregate_type: str, rows: str, condition: str) -> Identity:
    """Return the identity: `condition` holds for `rows`, whose alias `r` is the root; `actual` 1: it fails."""
    return Identity(
        name=name,
        aggregate_type=aggregate_type,
        rows=f"""
            select r.{AGGREGATE_ID}, r.merchant_id, r.currency, 0 as expected, if({condition}, 0, 1) as actual
            from {rows}""",
    )


UNIT = f"coalesce({micro_per_minor_sql('o.currency', HUGEINT)}, 0)"
"""Micro-units of a minor unit; 0 for an unknown currency, so that its amounts break the identities."""
ORDER_STATUS = f"""(
    select {AGGREGATE_ID}, case
        when sum(quantity) = sum(cancelled_quantity + withdrawn_quantity) then 'cancelled'
        when sum(quantity) = sum(cancelled_quantity + withdrawn_quantity + fulfilled_quantity) then 'fulfilled'
        when sum(fulfilled_quantity) > 0 then 'partially_fulfilled' else 'placed' end as status
    from {{order_lines}} group by {AGGREGATE_ID})"""
HELD = f"""(
    select {AGGREGATE_ID}, sum(quantity - consumed_quantity - released_quantity) as held
    from {{reservation_lines}} group by {AGGREGATE_ID})"""
GIVEN = f"""(
    select p.order_line_id, sum(p.amount_minor) as amount_minor, sum(p.quantity) as quantity,
           sum(p.tax_minor) as tax_minor
    from {{refund_lines}} as p join {{refunds}} as f on f.{AGGREGATE_ID} = p.{AGGREGATE_ID}
    where f.status <> 'failed' group by p.order_line_id)"""


def _given(name: str, expected: str, actual: str) -> Identity:
    """Return a limit of a line for what its refunds, requested ones included, give back."""
    return Identity(
        name=name,
        aggregate_type="order",
        is_limit=True,
        rows=f"""
            select l.{AGGREGATE_ID}, l.merchant_id, o.currency, {expected} as expected, {actual} as actual
            from {{order_lines}} as l join {{orders}} as o on o.{AGGREGATE_ID} = l.{AGGREGATE_ID}
            join {GIVEN} as g on g.order_line_id = l.order_line_id""",
    )


ADDED_TAX = "if(is_tax_inclusive, 0, tax_minor)"
IDENTITIES = (
    _order_total("lines_minor", "if(kind <> 'shipping', amount_minor, 0)"),
    _order_total("shipping_minor", "if(kind = 'shipping', amount_minor, 0)"),
    _order_total("discount_minor", "discount_minor"),
    _order_total("added_tax_minor", ADDED_TAX),
    _order_total("tax_minor", "tax_minor"),
    _order_total("rounding_micro", "rounding_micro"),
    _order_total("total_minor", "total_minor"),
    _order_total("cancelled_minor", "cancelled_minor"),
    _order_total("cancelled_tax_minor", "cancelled_tax_minor"),
    sum_of_parts("orders", "order", "discount_minor", "order_discounts", "amount_minor", name="given_discounts_minor"),
    Identity(
        name="named_discounts_minor_within_line",
        aggregate_type="order",
        is_limit=True,
        rows=f"""
            select d.{AGGREGATE_ID}, d.merchant_id, o.currency, coalesce(l.discount_minor, 0) as expected,
                   d.amount_minor as actual
            from (
                select {AGGREGATE_ID}, line_number, any_value(merchant_id) as merchant_id,
                       sum(amount_minor) as amount_minor
                from {{order_discounts}} where line_number is not null group by all
            ) as d
            left join {{orders}} as o on o.{AGGREGATE_ID} = d.{AGGREGATE_ID}
            left join {{order_lines}} as l
                on l.{AGGREGATE_ID} = d.{AGGREGATE_ID} and l.line_number = d.line_number""",
    ),
    of_line(
        "line_total_minor",
        "l.amount_minor - l.discount_minor + if(l.is_tax_inclusive, 0, l.tax_minor)",
        "l.total_minor",
    ),
    of_line("line_taxable_minor", "l.total_minor - l.tax_minor", "l.taxable_minor"),
    of_line(
        "closed_quantity",
        "l.quantity",
        "l.cancelled_quantity + l.fulfilled_quantity + l.withdrawn_quantity",
        is_limit=True,
    ),
    sum_of_parts("payments", "payment", "captured_minor", "payment_captures", "amount_minor"),
    sum_of_parts("payments", "payment", "dispute_fee_minor", "payment_disputes", "fee_minor"),
    sum_of_parts("payments", "payment", "disputed_minor", "payment_disputes", "if(status = 'opened', amount_minor, 0)"),
    sum_of_parts(
        "payments", "payment", "charged_back_minor", "payment_disputes", "if(status = 'lost', amount_minor, 0)"
    ),
    _of_payment(
        "captured_minor_within_authorized", "p.authorized_minor", "p.captured_minor + p.released_minor", is_limit=True
    ),
    _of_payment("refunded_minor", "coalesce(r.completed_minor, 0)", "p.refunded_minor"),
    _of_payment("refunds_minor_within_captured", "p.captured_minor", "coalesce(r.given_minor, 0)", is_limit=True),
    _of_another_currency("payment", "payments", "order_id", "orders"),
    _of_another_currency("refund", "refunds", "payment_id", "payments"),
    sum_of_parts("refunds", "refund", "amount_minor", "refund_lines", "amount_minor"),
    sum_of_parts("refunds", "refund", "tax_minor", "refund_lines", "tax_minor"),
    _given("refunded_minor_within_line", "l.total_minor", "l.cancelled_minor + g.amount_minor"),
    _given("refunded_quantity_within_line", "l.quantity", "l.cancelled_quantity + g.quantity"),
    _given("refunded_tax_minor_within_line", "l.tax_minor", "l.cancelled_tax_minor + g.tax_minor"),
    of_line(
        "line_exact_micro",
        "l.quantity::HUGEINT * l.unit_price_micro",
        f"l.amount_minor::HUGEINT * {UNIT} + l.rounding_micro",
    ),
    of_line("line_rounding_micro_within_half", UNIT, "2 * abs(l.rounding_micro::HUGEINT)", is_limit=True),
    of_line("line_cancelled_tax_minor", "l.tax_minor", "l.cancelled_tax_minor", is_limit=True),
    Identity(
        name="line_fulfilled_quantity",
        aggregate_type="order",
        rows=f"""
            select l.{AGGREGATE_ID}, l.merchant_id, null as currency, coalesce(f.quantity, 0) as expected,
                   l.fulfilled_quantity as actual
            from {{order_lines}} as l left join (
                select order_line_id, sum(quantity) as quantity from {{fulfillment_lines}} group by order_line_id
            ) as f on f.order_line_id = l.order_line_id""",
    ),
    Identity(
        name="captured_minor_within_owed",
        aggregate_type="order",
        is_limit=True,
        rows=f"""
            select o.{AGGREGATE_ID}, o.merchant_id, o.currency, o.total_minor - o.cancelled_minor as expected,
                   p.captured_minor as actual
            from {{orders}} as o join (
                select order_id, sum(captured_minor - returned_minor) as captured_minor
                from {{payments}} group by order_id
            ) as p on p.order_id = o.{AGGREGATE_ID}""",
    ),
    _must(
        "status_of_its_lines",
        "order",
        f"{{orders}} as r left join {ORDER_STATUS} as l on l.{AGGREGATE_ID} = r.{AGGREGATE_ID}",
        "r.status is not distinct from l.status",
    ),
    _must(
        "lines_of_its_merchant",
        "order",
        f"{{order_lines}} as l join {{orders}} as r on r.{AGGREGATE_ID} = l.{AGGREGATE_ID}",
        "l.merchant_id = r.merchant_id",
    ),
    _must(
        "currency_of_its_merchant",
        "order",
        f"{{orders}} as r left join {{merchants}} as m on m.{AGGREGATE_ID} = r.merchant_id",
        "r.currency is not distinct from m.currency",
    ),
    _must(
        "merchant_of_its_order",
        "payment",
        f"{{payments}} as r join {{orders}} as o on o.{AGGREGATE_ID} = r.order_id",
        "r.merchant_id = o.merchant_id",
    ),
    _must(
        "status_of_its_amounts",
        "payment",
        "{payments} as r",
        "case when r.status = 'captured' then r.captured_minor > 0 "
        "when r.status = 'declined' then r.authorized_minor = 0 and r.captured_minor = 0 "
        "when r.status in ('authorized', 'voided', 'pending', 'failed') "
        "then r.captured_minor = 0 and r.refunded_minor = 0 else true end",
    ),
    _must(
        "order_and_merchant_of_its_payment",
        "refund",
        f"{{refunds}} as r join {{payments}} as p on p.{AGGREGATE_ID} = r.payment_id",
        "r.order_id = p.order_id and r.merchant_id = p.merchant_id",
    ),
    _must(
        "lines_of_its_order",
        "refund",
        f"{{refund_lines}} as p join {{refunds}} as r on r.{AGGREGATE_ID} = p.{AGGREGATE_ID} "
        "join {order_lines} as l on l.order_line_id = p.order_line_id",
        f"l.{AGGREGATE_ID} = r.order_id and p.tax_minor between 0 and p.amount_minor",
    ),
    Identity(
        name="status_of_its_lines",
        aggregate_type="reservation",
        rows=f"""
            select r.{AGGREGATE_ID}, r.merchant_id, null as currency, 0 as expected,
                   if((l.held > 0) is not distinct from (r.status = 'held'), 0, 1) as actual
            from {{reservations}} as r left join {HELD} as l on l.{AGGREGATE_ID} = r.{AGGREGATE_ID}""",
    ),
    _must(
        "balance_of_its_sums",
        "gift_card",
        "{gift_cards} as r",
        "r.balance_minor = r.issued_minor + r.credited_minor - r.redeemed_minor - r.expired_minor "
        "and r.balance_minor >= 0",
    ),
    _of_gift_card("redeemed_minor", "payments", "captured_minor", "true"),
    _of_gift_card("credited_minor", "refunds", "amount_minor", "status = 'completed'"),
    *MOVEMENT_IDENTITIES,
    *TAX_IDENTITIES,
)


def _compare(run: PodRun) -> Findings:
    names = {name: table(left_name(run.pod, name)) for name in ENTITIES}
    return Findings(outcomes=[_outcome(run, identity, names) for identity in IDENTITIES])


def _outcome(run: PodRun, identity: Identity, names: dict[str, str]) -> Outcome:
    """Count the rows that break an identity; an aggregate with several is one key, with the largest excess."""
    wrong = "actual > expected" if identity.is_limit else "actual is distinct from expected"
    target = table("identity")
    looked_at = run.in_scope(f"({identity.rows.format(**names)})", AGGREGATE_ID)
    run.connection.execute(
        f"create or replace table {target} as "
        f"select * replace (expected::HUGEINT as expected, actual::HUGEINT as actual) from {looked_at}"
    )
    counted = run.connection.execute(
        f"select count(*), count(distinct {AGGREGATE_ID}) filter (where {wrong}) from {target}"
    ).fetchall()
    compared, broken = counted[0]
    return Outcome(
        compared=compared,
        classes={DifferenceClass.IDENTITY: broken} if broken else {},
        sample=_sample(run, identity, target, wrong) if broken else (),
    )


def _sample(run: PodRun, identity: Identity, target: str, wrong: str) -> tuple[Difference, ...]:
    # The order is total: of two lines with the same excess we always choose the same one, because other amounts would
    # reopen an accepted break.
    excess = "if(actual - expected is null, null, (abs(actual - expected), expected, actual))"
    rows = run.connection.execute(
        f"""select {AGGREGATE_ID}, any_value(merchant_id), any_value(currency),
                   arg_max(expected, {excess}), arg_max(actual, {excess})
            from {target} where {wrong} group by 1 order by 1 limit {run.context.limits.sample:d}"""
    ).fetchall()
    return tuple(_difference(identity, *row) for row in rows)


def _difference(
    identity: Identity, aggregate_id: str, merchant_id: str, currency: str | None, expected: int, actual: int
) -> Difference:
    column = ColumnDifference(column=identity.name, left=expected, right=actual, difference=actual - expected)
    return Difference(
        entity=identity.shape.name,
        key=(aggregate_id,),
        kind=DifferenceClass.IDENTITY,
        merchant_id=merchant_id,
        currency=currency,
        aggregate_key=aggregate_key(merchant_id, identity.aggregate_type, aggregate_id),
        columns=(column,),
    )


OLTP_IDENTITIES = Pair(
    name="oltp_identities",
    left="OLTP: what follows from lines, captures and refunds",
    right="OLTP: totals of orders, payments, refunds and gift cards",
    description=(
        "Totals equal the sums of their parts; captured and released are no more than authorized; refunds, requested "
        "ones included, are no more than what was captured, and per line no more than what was sold and not cancelled; "
        "a payment is in the currency of its order, a refund in that of its payment, an order in that of its merchant. "
        "Quantity times price is the amount and what rounding left; tax is what its rates give, each by itself; "
        "captured is no more than owed; a gift card's sums are its payments and refunds; fulfilled units are those of "
        "the fulfillments; a status is what amounts and quantities say."
    ),
    cannot_catch="A price, a rate or a quantity that is wrong with everything that follows from it.",
    copy=None,
    stage=Stage.OLTP,
    shapes=tuple(identity.shape for identity in IDENTITIES),
    compare=_compare,
    aggregate_types=TYPES,
)
