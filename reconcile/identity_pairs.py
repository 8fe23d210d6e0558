"""Figures that must agree with each other: journal entries with zero and operations, stock levels with movements.

Belongs here: accounting and stock identities at a cut. Does not belong here: comparing copies row by row.
"""

from __future__ import annotations

from contracts.events.order import DEPOSIT_TAX_CATEGORY
from contracts.ids import aggregate_key
from contracts.money import micro_per_minor_sql
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass
from reconcile.by_day import BY_DAY_QUERIES
from reconcile.compare import Outcome, compare
from reconcile.entities import AGGREGATE_ID
from reconcile.finance_pairs import Mart, mart_view, refuse_parked
from reconcile.oltp_side import left_name
from reconcile.pair import Findings, Pair, PodRun, Stage, Sweep
from reconcile.scratch import table
from reconcile.shapes import HUGEINT, Shape, names_aggregate, sums, text

DEPOSIT = f"'{DEPOSIT_TAX_CATEGORY}'"
PER_MINOR = micro_per_minor_sql("currency", HUGEINT)

AGGREGATE_TYPES = ("order", "payment", "refund", "adjustment", "gift_card")
"""The aggregate types whose events the journal books."""

ACCOUNTS = (
    "clearing",
    "cash",
    "revenue",
    "discounts",
    "refunds",
    "customer_deposits",
    "tax_payable",
    "merchant_payable",
    "adjustments",
    "rounding",
    "gift_card_liability",
    "gift_card_grants",
    "gift_card_breakage",
    "dispute_cash",
    "dispute_holds",
    "chargebacks",
    "dispute_fees",
    "merchant_disputes",
    "unallocated_cash",
)
"""Accounts whose balance per aggregate can be computed from OLTP; `revenue` is sales plus shipping."""

BALANCE_COLUMNS = (*text("merchant_id", "currency"), *sums(*(f"{account}_micro" for account in ACCOUNTS)))


MATTERS = " or ".join(f"{account}_micro <> 0" for account in ACCOUNTS)
TOTALS = ", ".join(f"coalesce({account}_micro, 0)::HUGEINT as {account}_micro" for account in ACCOUNTS)

# `unit` is the number of micro-units in a minor unit; debits are positive. Only a completed refund has moved money.
EXPECTED_BALANCES = f"""
    with line as (
        select {AGGREGATE_ID}, rounding_micro,
               amount_minor - case when is_tax_inclusive then tax_minor else 0 end
               - (cancelled_minor - cancelled_tax_minor) as held_minor
        from {{order_lines}} where tax_category = {DEPOSIT}
    ),
    order_deposit as (
        select {AGGREGATE_ID}, sum(held_minor)::HUGEINT as held_minor, sum(rounding_micro)::HUGEINT as held_micro
        from line group by {AGGREGATE_ID}
    ),
    refund_deposit as (
        select {AGGREGATE_ID}, sum(amount_minor - tax_minor)::HUGEINT as held_minor
        from {{refund_lines}} where tax_category = {DEPOSIT} group by {AGGREGATE_ID}
    ),
    expected as (
        select 'order' as aggregate_type, order_id as aggregate_id, merchant_id, currency,
               {PER_MINOR} as unit,
               (total_minor - cancelled_minor) * unit as clearing_micro,
               discount_minor * unit as discounts_micro,
               (cancelled_tax_minor - tax_minor) * unit as tax_payable_micro,
               rounding_micro,
               -coalesce(held_minor * unit + held_micro, 0) as customer_deposits_micro,
               -(clearing_micro + discounts_micro + tax_payable_micro + rounding_micro + customer_deposits_micro)
               as revenue_micro
        from {{orders}} left join order_deposit using ({AGGREGATE_ID})
        union all by name
        select 'payment' as aggregate_type, payment_id as aggregate_id, merchant_id, currency,
               {PER_MINOR} as unit,
               (captured_minor - returned_minor) * unit as kept_micro,
               case when gift_card_id is null then kept_micro else 0 end as cash_micro,
               kept_micro - cash_micro as gift_card_liability_micro,
               -kept_micro as clearing_micro,
               -kept_micro as merchant_payable_micro,
               unallocated_minor * unit as unallocated_cash_micro,
               -unallocated_cash_micro as customer_deposits_micro,
               disputed_minor * unit as dispute_holds_micro,
               charged_back_minor * unit as chargebacks_micro,
               (dispute_fee_minor + return_fee_minor) * unit as dispute_fees_micro,
               chargebacks_micro + dispute_fees_micro as merchant_disputes_micro,
               -(dispute_holds_micro + merchant_disputes_micro) as dispute_cash_micro
        from {{payments}}
        union all by name
        select 'refund' as aggregate_type, refund_id as aggregate_id, merchant_id, currency,
               {PER_MINOR} as unit,
               coalesce(held_minor, 0) * unit as customer_deposits_micro,
               (amount_minor - tax_minor) * unit - customer_deposits_micro as refunds_micro,
               tax_minor * unit as tax_payable_micro,
               case when gift_card_id is null then -amount_minor else 0 end * unit as cash_micro,
               -amount_minor * unit - cash_micro as gift_card_liability_micro,
               amount_minor * unit as merchant_payable_micro
        from {{refunds}} left join refund_deposit using ({AGGREGATE_ID}) where status = 'completed'
        union all by name
        select 'adjustment' as aggregate_type, adjustment_id as aggregate_id, merchant_id, currency,
               {PER_MINOR} as unit,
               amount_minor * unit as clearing_micro,
               -amount_minor * unit as merchant_payable_micro,
               rounding_micro,
               -tax_minor * unit as tax_payable_micro,
               -(clearing_micro + rounding_micro + tax_payable_micro) as adjustments_micro
        from {{adjustments}}
        union all by name
        select 'gift_card' as aggregate_type, gift_card_id as aggregate_id, merchant_id, currency,
               {PER_MINOR} as unit,
               case when funding = 'sold' then issued_minor else 0 end * unit as cash_micro,
               case when funding = 'granted' then issued_minor else 0 end * unit as gift_card_grants_micro,
               -expired_minor * unit as gift_card_breakage_micro,
               -(cash_micro + gift_card_grants_micro + gift_card_breakage_micro) as gift_card_liability_micro
        from {{gift_cards}}
    ),
    balance as (select aggregate_type, aggregate_id, merchant_id, currency, {TOTALS} from expected)
    select * from balance where {MATTERS}
"""


def _booked(account: str) -> str:
    condition = "account in ('sales', 'shipping')" if account == "revenue" else f"account = '{account}'"
    return f"coalesce(sum(amount_micro) filter (where {condition}), 0)::HUGEINT as {account}_micro"


JOURNAL_BALANCES = Mart(
    shape=Shape(
        name="journal_balances",
        key=("aggregate_type", "aggregate_id"),
        columns=BALANCE_COLUMNS,
        currency="currency",
        aggregate=names_aggregate,
    ),
    left=EXPECTED_BALANCES,
    right=f"""
        with balance as (
            select aggregate_type, aggregate_id, merchant_id, currency, {", ".join(_booked(name) for name in ACCOUNTS)}
            from lake.marts.journal where pod = $pod
            group by aggregate_type, aggregate_id, merchant_id, currency
        )
        select * from balance where {MATTERS}""",
    id_column="aggregate_id",
)

EVENT_SUMS = """
    create or replace table {target} as
    select event_id, merchant_id, currency, sum(amount_micro)::HUGEINT as sum_micro,
           any_value(aggregate_type) as aggregate_type, any_value(aggregate_id) as aggregate_id
    from {journal} group by event_id, merchant_id, currency
"""
JOURNAL = "(select * from lake.marts.journal where pod = $pod)"


def _journal(run: PodRun) -> Findings:
    refuse_parked(run, AGGREGATE_TYPES)
    left, right = mart_view(run, JOURNAL_BALANCES)
    balances = compare(run.connection, JOURNAL_BALANCES.shape, left, right, run.context.limits)
    return Findings(outcomes=[balances, _events_sum_to_zero(run)])


def _events_sum_to_zero(run: PodRun) -> Outcome:
    """Check that every event's entries sum to zero per merchant and currency; then a merchant's entries do, too."""
    connection, target = run.connection, table("journal_events")
    connection.execute("set variable as_of = map([$pod], [$cut::bigint])", {"pod": run.pod, "cut": run.cut})
    journal = run.in_scope(JOURNAL, "aggregate_id")
    connection.execute(EVENT_SUMS.format(target=target, journal=journal), {"pod": run.pod})
    connection.execute("reset variable as_of")
    counted = connection.execute(f"select count(*), count(*) filter (where sum_micro <> 0) from {target}").fetchall()
    rows = connection.execute(
        f"select event_id, merchant_id, currency, sum_micro, aggregate_type, aggregate_id "
        f"from {target} where sum_micro <> 0 "
        f"order by 1, 2, 3 limit {run.context.limits.sample:d}"
    ).fetchall()
    compared, wrong = counted[0]
    return Outcome(
        compared=compared,
        classes={DifferenceClass.IDENTITY: wrong} if wrong else {},
        sample=tuple(_not_zero(*row) for row in rows),
    )


def _not_zero(
    event_id: str, merchant_id: str, currency: str, sum_micro: int, aggregate_type: str, aggregate_id: str
) -> Difference:
    return Difference(
        entity="journal_events",
        key=(event_id,),
        kind=DifferenceClass.IDENTITY,
        merchant_id=merchant_id,
        currency=currency,
        aggregate_key=aggregate_key(merchant_id, aggregate_type, aggregate_id),
        columns=(ColumnDifference(column="amount_micro", left=0, right=int(sum_micro), difference=int(sum_micro)),),
    )


JOURNAL_PAIR = Pair(
    name="journal_identities",
    left="zero, and OLTP: orders, payments, refunds, adjustments, gift cards",
    right="warehouse: marts.journal, as of the cut",
    description=(
        "The entries of every event sum to zero; what the journal has of an order, payment, refund, adjustment "
        "or gift card on each account equals what operations say of it."
    ),
    cannot_catch=(
        "An amount in the right account, of the right aggregate, on the wrong day; sales and shipping exchanged (they "
        "are compared as one); what OLTP itself has wrong."
    ),
    copy="warehouse",
    stage=Stage.WAREHOUSE,
    shapes=(JOURNAL_BALANCES.shape,),
    compare=_journal,
    aggregate_types=AGGREGATE_TYPES,
    has_figures=True,
    queries=BY_DAY_QUERIES,
)

STOCK_SHAPE = Shape(
    name="stock_levels",
    key=("variant_id", "location_id"),
    columns=(*text("merchant_id"), *sums("on_hand", "reserved", "odd_slots")),
)
STOCK_LEVELS = """
    select variant_id::text, location_id, merchant_id, on_hand::text, reserved::text, odd_slots::text from (
        select variant_id, location_id, min(merchant_id) as merchant_id, sum(on_hand) as on_hand,
               sum(reserved) as reserved,
               abs(count(*) - min(slots)) + max(slots) - min(slots)
                   + count(*) filter (where reserved not between 0 and on_hand) as odd_slots
        from oltp.stock_slots group by variant_id, location_id
    ) as s
    where on_hand <> 0 or reserved <> 0 or odd_slots <> 0
"""
"""A level is the sum of its slots. Odd are slots that are missing or too many, or that hold more than they have."""
STOCK_SUMS = """
    select variant_id, location_id, merchant_id, on_hand::text, reserved::text, '0' as odd_slots from (
        select coalesce(m.variant_id, r.variant_id)::text as variant_id,
               coalesce(m.location_id, r.location_id) as location_id,
               coalesce(m.merchant_id, r.merchant_id) as merchant_id,
               coalesce(m.on_hand, 0) as on_hand, coalesce(r.reserved, 0) as reserved
        from (
            select variant_id, location_id, min(merchant_id) as merchant_id, sum(quantity) as on_hand
            from oltp.stock_movements group by variant_id, location_id
        ) as m
        full join (
            select variant_id, location_id, min(merchant_id) as merchant_id,
                   sum(quantity - consumed_quantity - released_quantity) as reserved
            from oltp.reservation_lines group by variant_id, location_id
        ) as r on r.variant_id = m.variant_id and r.location_id = m.location_id
    ) as s
    where on_hand <> 0 or reserved <> 0
"""


def _stock(run: PodRun) -> Findings:
    left, right = (table(left_name(run.pod, name)) for name in ("stock_levels", "stock_sums"))
    return Findings(outcomes=[compare(run.connection, STOCK_SHAPE, left, right, run.context.limits)])


STOCK_PAIR = Pair(
    name="stock_identity",
    left="OLTP: stock_slots, summed to levels",
    right="OLTP: sums of stock_movements, and of what the lines of reservations still hold",
    description="Per variant and location: on hand = sum of movements, reserved = sum of what reservations hold; a "
    "level has all its slots.",
    cannot_catch="A movement that is wrong in itself, with its level; units in another slot of the same level.",
    copy=None,
    stage=Stage.OLTP,
    shapes=(STOCK_SHAPE,),
    compare=_stock,
    queries={"stock_levels": STOCK_LEVELS, "stock_sums": STOCK_SUMS},
    sweep=Sweep.WHOLE,
)
