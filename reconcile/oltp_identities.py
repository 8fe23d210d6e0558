"""Figures of OLTP that must agree by themselves: totals with their parts, and limits that money must keep to.

The database enforces the same at every commit; this finds what was written with its triggers switched off, by a
restore, or before a rule existed. Such a fault is the owner's own: people correct it, never code.

Belongs here: those identities as SQL over OLTP at a cut. Does not belong here: copies (`reconcile/lake_pairs.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.ids import aggregate_key
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass
from reconcile.compare import Outcome
from reconcile.entities import AGGREGATE_ID
from reconcile.oltp import left_name
from reconcile.pair import Findings, Pair, PodRun, Stage
from reconcile.scratch import table
from reconcile.shapes import HUGEINT, Column, Shape, belongs_to

TYPES = ("order", "payment", "refund")
ENTITIES = ("orders", "order_lines", "order_discounts", "payments", "payment_captures", "refunds", "refund_lines")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Two figures of the same rows: `expected` from the parts, `actual` as stored.

    `rows` is DuckDB SQL that delivers aggregate_id, merchant_id, currency, expected and actual; a row per figure. It is
    broken where the two differ, or, for a limit, where `actual` is more.
    """

    name: str
    aggregate_type: str
    rows: str
    is_limit: bool = False

    @property
    def shape(self) -> Shape:
        """What a difference names: the aggregate, and the figure."""
        return Shape(
            name=f"{self.aggregate_type}.{self.name}",
            key=(AGGREGATE_ID,),
            columns=(Column(name=self.name, type=HUGEINT),),
            currency="currency",
            aggregate=belongs_to(self.aggregate_type, AGGREGATE_ID),
        )


def _order_total(column: str, parts: str) -> Identity:
    """An order's figure is the sum of its lines'."""
    return Identity(
        name=column,
        aggregate_type="order",
        rows=f"""
            select o.{AGGREGATE_ID}, o.merchant_id, o.currency, coalesce(l.expected, 0) as expected,
                   o.{column} as actual
            from {{orders}} as o left join (
                select {AGGREGATE_ID}, sum({parts}) as expected from {{order_lines}} group by {AGGREGATE_ID}
            ) as l on l.{AGGREGATE_ID} = o.{AGGREGATE_ID}""",
    )


def _line(name: str, expected: str, actual: str, *, is_limit: bool = False) -> Identity:
    """A figure of an order's line, of the order's other figures."""
    return Identity(
        name=name,
        aggregate_type="order",
        is_limit=is_limit,
        rows=f"""
            select l.{AGGREGATE_ID}, l.merchant_id, o.currency, {expected} as expected, {actual} as actual
            from {{order_lines}} as l left join {{orders}} as o on o.{AGGREGATE_ID} = l.{AGGREGATE_ID}""",
    )


def _parts(root: str, aggregate_type: str, column: str, parts: str, amount: str, name: str | None = None) -> Identity:
    """A root's amount is the sum of its parts'."""
    return Identity(
        name=name or column,
        aggregate_type=aggregate_type,
        rows=f"""
            select r.{AGGREGATE_ID}, r.merchant_id, r.currency, coalesce(p.expected, 0) as expected,
                   r.{column} as actual
            from {{{root}}} as r left join (
                select {AGGREGATE_ID}, sum({amount}) as expected from {{{parts}}} group by {AGGREGATE_ID}
            ) as p on p.{AGGREGATE_ID} = r.{AGGREGATE_ID}""",
    )


def _of_payment(name: str, expected: str, actual: str, *, is_limit: bool = False) -> Identity:
    """A payment's figure against its refunds: `completed_minor`, and `given_minor` with those that are requested."""
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


def _of_another_currency(aggregate_type: str, rows: str, reference: str, referred: str) -> Identity:
    """A payment is in its order's currency, a refund in its payment's: 1 where it is not."""
    return Identity(
        name="other_currency",
        aggregate_type=aggregate_type,
        rows=f"""
            select r.{AGGREGATE_ID}, r.merchant_id, r.currency, 0 as expected,
                   if(r.currency is distinct from o.currency, 1, 0) as actual
            from {{{rows}}} as r join {{{referred}}} as o on o.{AGGREGATE_ID} = r.{reference}""",
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
    _parts("orders", "order", "discount_minor", "order_discounts", "amount_minor", name="given_discounts_minor"),
    _line(
        "line_total_minor",
        "l.amount_minor - l.discount_minor + if(l.is_tax_inclusive, 0, l.tax_minor)",
        "l.total_minor",
    ),
    _line("line_taxable_minor", "l.total_minor - l.tax_minor", "l.taxable_minor"),
    _line(
        "closed_quantity",
        "l.quantity",
        "l.cancelled_quantity + l.fulfilled_quantity + l.withdrawn_quantity",
        is_limit=True,
    ),
    _parts("payments", "payment", "captured_minor", "payment_captures", "amount_minor"),
    _of_payment(
        "captured_minor_within_authorized", "p.authorized_minor", "p.captured_minor + p.released_minor", is_limit=True
    ),
    _of_payment("refunded_minor", "coalesce(r.completed_minor, 0)", "p.refunded_minor"),
    _of_payment("refunds_minor_within_captured", "p.captured_minor", "coalesce(r.given_minor, 0)", is_limit=True),
    _of_another_currency("payment", "payments", "order_id", "orders"),
    _of_another_currency("refund", "refunds", "payment_id", "payments"),
    _parts("refunds", "refund", "amount_minor", "refund_lines", "amount_minor"),
    _parts("refunds", "refund", "tax_minor", "refund_lines", "tax_minor"),
    Identity(
        name="refunded_minor_within_line",
        aggregate_type="order",
        is_limit=True,
        rows=f"""
            select l.{AGGREGATE_ID}, l.merchant_id, o.currency, l.total_minor as expected,
                   l.cancelled_minor + g.given_minor as actual
            from {{order_lines}} as l join {{orders}} as o on o.{AGGREGATE_ID} = l.{AGGREGATE_ID}
            join (
                select p.order_line_id, sum(p.amount_minor) as given_minor from {{refund_lines}} as p
                join {{refunds}} as r on r.{AGGREGATE_ID} = p.{AGGREGATE_ID}
                where r.status <> 'failed' group by p.order_line_id
            ) as g on g.order_line_id = l.order_line_id""",
    ),
)


def _compare(run: PodRun) -> Findings:
    names = {name: table(left_name(run.pod, name)) for name in ENTITIES}
    return Findings(outcomes=[_outcome(run, identity, names) for identity in IDENTITIES])


def _outcome(run: PodRun, identity: Identity, names: dict[str, str]) -> Outcome:
    """Count the rows that break an identity; an order with several such lines is one key, with the largest excess."""
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
    rows = run.connection.execute(
        f"""select {AGGREGATE_ID}, any_value(merchant_id), any_value(currency),
                   arg_max(expected, abs(actual - expected)), arg_max(actual, abs(actual - expected))
            from {target} where {wrong} group by 1 order by 1 limit {run.context.limits.sample:d}"""
    ).fetchall()
    compared, broken = counted[0]
    return Outcome(
        compared=compared,
        classes={DifferenceClass.IDENTITY: broken} if broken else {},
        sample=tuple(_difference(identity, *row) for row in rows),
    )


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
    right="OLTP: totals of orders, payments and refunds",
    description=(
        "Totals equal the sums of their parts; captured and released are no more than authorized; refunds, requested "
        "ones included, are no more than what was captured, and per line no more than what was sold and not cancelled; "
        "a payment is in the currency of its order, a refund in that of its payment."
    ),
    cannot_catch="A part that is wrong in itself, with its total; the tax that a rate should have given.",
    copy=None,
    stage=Stage.OLTP,
    shapes=tuple(identity.shape for identity in IDENTITIES),
    compare=_compare,
    aggregate_types=TYPES,
)
