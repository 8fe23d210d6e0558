"""Operations <-> finance: the tax of OLTP's lines, refunds and adjustments against the warehouse's movements.

Belongs here: that mart's expectation. Does not belong here: marts with a row per aggregate (`finance_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.verdicts import Scalar
from reconcile.entities import AGGREGATE_ID
from reconcile.finance_pairs import CANNOT_CATCH, Mart, finance_pair
from reconcile.shapes import Shape, belongs_to, number, text

TAX_COLUMNS = (
    *text("source_line_id", "movement", "order_line_id", "order_id", "merchant_id", "currency"),
    *text("jurisdiction", "tax_category", "tax_date"),
    *number("rate_ppm", "taxable_minor", "tax_minor"),
)
TAX_GROUP = (
    "source_line_id, movement, order_line_id, order_id, merchant_id, currency, jurisdiction, tax_category, rate_ppm, "
    "tax_date"
)
TAX_MATTERS = "movement = 'charged' or taxable_minor <> 0 or tax_minor <> 0"
RETURNED = "returned"
"""What this comparison calls the opposite movement of a refund that failed after it was completed."""
TAXED_ID = "coalesce(order_id, source_line_id) as taxed_id"


def _taxed(row: Mapping[str, Scalar]) -> str | None:
    """Return the aggregate of a row. For a refunded tax it is the order, because the order's events begin earlier."""
    is_adjusted = row["movement"] == "adjusted"
    return belongs_to("adjustment", "source_line_id")(row) if is_adjusted else belongs_to("order", "order_id")(row)


TAX = (
    Mart(
        shape=Shape(
            name="marts.tax_lines",
            key=("source_line_id", "movement", "jurisdiction"),
            columns=TAX_COLUMNS,
            day="tax_date",
            currency="currency",
            aggregate=_taxed,
        ),
        left=f"""
            with line as (
                select l.* replace (
                           coalesce(t.jurisdiction, l.jurisdiction) as jurisdiction,
                           coalesce(t.rate_ppm, l.rate_ppm) as rate_ppm,
                           coalesce(t.tax_minor, l.tax_minor) as tax_minor
                       ),
                       coalesce(t.cancelled_tax_minor, l.cancelled_tax_minor) as cancelled_of_tax_minor,
                       o.order_id, o.currency, strftime(o.placed_at, '%Y-%m-%d') as placed_date
                from {{order_lines}} as l left join {{orders}} as o on o.{AGGREGATE_ID} = l.{AGGREGATE_ID}
                left join {{order_line_taxes}} as t on t.order_line_id = l.order_line_id
            ),
            movement as (
                select order_line_id as source_line_id, 'charged' as movement, order_line_id, order_id, merchant_id,
                       currency, jurisdiction, tax_category, rate_ppm, placed_date as tax_date, taxable_minor,
                       tax_minor
                from line
                union all
                select order_line_id, 'cancelled', order_line_id, order_id, merchant_id, currency, jurisdiction,
                       tax_category, rate_ppm, null, cancelled_tax_minor - cancelled_minor, -cancelled_of_tax_minor
                from line
                union all
                select p.refund_line_id, 'refunded', p.order_line_id, r.order_id, r.merchant_id, r.currency,
                       coalesce(t.jurisdiction, p.jurisdiction), p.tax_category, null,
                       strftime(r.completed_at, '%Y-%m-%d'), p.tax_minor - p.amount_minor,
                       -coalesce(t.tax_minor, p.tax_minor)
                from {{refund_lines}} as p join {{refunds}} as r on r.{AGGREGATE_ID} = p.{AGGREGATE_ID}
                left join {{refund_line_taxes}} as t on t.refund_line_id = p.refund_line_id
                where r.completed_at is not null
                union all
                select p.refund_line_id, '{RETURNED}', p.order_line_id, r.order_id, r.merchant_id, r.currency,
                       coalesce(t.jurisdiction, p.jurisdiction), p.tax_category, null,
                       strftime(r.failed_at, '%Y-%m-%d'), p.amount_minor - p.tax_minor,
                       coalesce(t.tax_minor, p.tax_minor)
                from {{refund_lines}} as p join {{refunds}} as r on r.{AGGREGATE_ID} = p.{AGGREGATE_ID}
                left join {{refund_line_taxes}} as t on t.refund_line_id = p.refund_line_id
                where r.completed_at is not null and r.status = 'failed'
                union all
                select a.adjustment_id, 'adjusted', null, null, a.merchant_id, a.currency,
                       coalesce(t.jurisdiction, a.jurisdiction), a.tax_category, coalesce(t.rate_ppm, a.rate_ppm),
                       strftime(a.adjusted_at, '%Y-%m-%d'), a.amount_minor - a.tax_minor,
                       coalesce(t.tax_minor, a.tax_minor)
                from {{adjustments}} as a left join {{adjustment_taxes}} as t on t.{AGGREGATE_ID} = a.{AGGREGATE_ID}
                where a.tax_category is not null
            )
            select *, {TAXED_ID} from movement where {TAX_MATTERS}""",
        right=f"""
            with dated as (
                select * replace (
                    if(movement = 'cancelled', null, strftime(tax_date, '%Y-%m-%d')) as tax_date,
                    if(
                        movement = 'refunded' and (taxable_minor > 0 or tax_minor > 0), '{RETURNED}', movement
                    ) as movement
                )
                from lake.marts.tax_lines where pod = $pod
            ),
            movement as (
                select {TAX_GROUP}, sum(taxable_minor)::BIGINT as taxable_minor, sum(tax_minor)::BIGINT as tax_minor
                from dated group by {TAX_GROUP}
            )
            select *, {TAXED_ID} from movement where {TAX_MATTERS}""",
        id_column="taxed_id",
    ),
)

TAX_PAIR = finance_pair(
    "tax",
    TAX,
    ("order", "refund", "adjustment"),
    "Tax charged, cancelled and refunded per line and tax, and adjusted, by merchant, day and currency: the sum of the "
    "mart's movements against the lines.",
    cannot_catch=f"The day of a cancellation, which OLTP does not keep. {CANNOT_CATCH}",
)
