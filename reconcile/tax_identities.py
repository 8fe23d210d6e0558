"""Figures of tax in OLTP that must agree with each other: each tax with its rate, and several taxes with their line.

Belongs here: those identities as SQL over OLTP at a cut, written independently of `oltp/`. Does not belong here: other
figures (`oltp_identities.py`), and the warehouse's tax (`tax_pair.py`).
"""

from __future__ import annotations

from reconcile.entities import AGGREGATE_ID
from reconcile.identity import Identity, of_line

PPM = "1000000::HUGEINT"
NET = "(l.amount_minor - l.discount_minor)::HUGEINT"


def _rounded(numerator: str, denominator: str) -> str:
    """Return SQL for numerator / denominator, rounded half away from zero; the denominator must be positive."""
    return f"(sign({numerator}) * ((2 * abs({numerator}) + {denominator}) // (2 * {denominator})))::HUGEINT"


ADDED = _rounded(f"({NET} * l.rate_ppm)", PPM)
"""Tax that is added to a line's amount after discount, at the rate of the line or of one of its taxes."""
CONTAINED = _rounded(f"({NET} * l.rate_ppm)", f"({PPM} + l.rate_ppm)")
"""Tax that is contained in a line's amount after discount, at the line's whole rate."""
# When a price contains several taxes, the first k taxes together are the whole tax times their share of the rate,
# rounded.
REACHED = """sum(rate_ppm) over (partition by {owner} order by jurisdiction)::HUGEINT"""


def _split(whole: str, rate: str, owner: str) -> str:
    reached = REACHED.format(owner=owner)
    upto = _rounded(f"({whole} * {reached})", f"greatest({rate}::HUGEINT, 1)")
    before = _rounded(f"({whole} * ({reached} - rate_ppm))", f"greatest({rate}::HUGEINT, 1)")
    return f"{upto} - {before}"


EACH_OF_LINE = f"""(
    select t.{AGGREGATE_ID}, t.merchant_id, t.order_line_id, t.jurisdiction, t.rate_ppm, t.tax_minor,
           t.cancelled_tax_minor, l.is_tax_inclusive, l.amount_minor, l.discount_minor,
           l.rate_ppm as whole_ppm, l.tax_minor as whole_minor
    from {{order_line_taxes}} as t
    join {{order_lines}} as l on l.{AGGREGATE_ID} = t.{AGGREGATE_ID} and l.order_line_id = t.order_line_id
)"""
SUMS_OF_LINE = f"""(
    select {AGGREGATE_ID}, order_line_id, sum(rate_ppm) as rate_ppm, sum(tax_minor) as tax_minor,
           sum(cancelled_tax_minor) as cancelled_tax_minor,
           sum({ADDED}) as added_minor
    from {EACH_OF_LINE} as l group by {AGGREGATE_ID}, order_line_id
)"""
GIVEN_BACK = f"""(
    select p.order_line_id, b.jurisdiction, sum(b.tax_minor) as tax_minor
    from {{refund_line_taxes}} as b
    join {{refund_lines}} as p on p.{AGGREGATE_ID} = b.{AGGREGATE_ID} and p.refund_line_id = b.refund_line_id
    join {{refunds}} as r on r.{AGGREGATE_ID} = b.{AGGREGATE_ID}
    where r.status <> 'failed' group by p.order_line_id, b.jurisdiction
)"""
SUMS_OF_REFUND = f"""(
    select {AGGREGATE_ID}, refund_line_id, sum(tax_minor) as tax_minor
    from {{refund_line_taxes}} group by {AGGREGATE_ID}, refund_line_id
)"""


def _sum_of_line(name: str, column: str) -> Identity:
    """Return the identity: a figure of a line with several taxes is the sum over these taxes."""
    rows = f"{{order_lines}} as l join {SUMS_OF_LINE} as s on s.order_line_id = l.order_line_id"
    return of_line(name, f"s.{column}", f"l.{column}", rows)


TAX_IDENTITIES = (
    of_line(
        "line_tax_minor",
        f"if(l.is_tax_inclusive, {CONTAINED}, coalesce(s.added_minor, {ADDED}))",
        "l.tax_minor",
        f"{{order_lines}} as l left join {SUMS_OF_LINE} as s on s.order_line_id = l.order_line_id",
    ),
    _sum_of_line("several_taxes_minor", "tax_minor"),
    _sum_of_line("several_taxes_rate_ppm", "rate_ppm"),
    _sum_of_line("several_taxes_cancelled_minor", "cancelled_tax_minor"),
    of_line(
        "each_tax_minor",
        f"if(l.is_tax_inclusive, {_split('l.whole_minor', 'l.whole_ppm', 'l.order_line_id')}, {ADDED})",
        "l.tax_minor",
        f"{EACH_OF_LINE} as l",
    ),
    of_line(
        "each_tax_minor_given_back_within",
        "l.tax_minor",
        "l.cancelled_tax_minor + coalesce(b.tax_minor, 0)",
        f"{EACH_OF_LINE} as l "
        f"left join {GIVEN_BACK} as b on b.order_line_id = l.order_line_id and b.jurisdiction = l.jurisdiction",
        is_limit=True,
    ),
    Identity(
        name="several_taxes_minor",
        aggregate_type="refund",
        rows=f"""
            select p.{AGGREGATE_ID}, p.merchant_id, r.currency, coalesce(s.tax_minor, 0) as expected,
                   p.tax_minor as actual
            from {{refund_lines}} as p left join {{refunds}} as r on r.{AGGREGATE_ID} = p.{AGGREGATE_ID}
            left join {SUMS_OF_REFUND} as s on s.refund_line_id = p.refund_line_id
            where s.refund_line_id is not null
               or p.order_line_id in (select order_line_id from {{order_line_taxes}})""",
    ),
    Identity(
        name="several_taxes_minor",
        aggregate_type="adjustment",
        rows=f"""
            select a.{AGGREGATE_ID}, a.merchant_id, a.currency, s.tax_minor as expected, a.tax_minor as actual
            from {{adjustments}} as a join (
                select {AGGREGATE_ID}, sum(tax_minor) as tax_minor from {{adjustment_taxes}} group by {AGGREGATE_ID}
            ) as s on s.{AGGREGATE_ID} = a.{AGGREGATE_ID}""",
    ),
    Identity(
        name="each_tax_minor",
        aggregate_type="adjustment",
        rows=f"""
            select a.{AGGREGATE_ID}, a.merchant_id, a.currency,
                   {_split("a.whole_minor", "a.whole_ppm", f"a.{AGGREGATE_ID}")} as expected, a.tax_minor as actual
            from (
                select t.*, w.currency, w.tax_minor as whole_minor, w.rate_ppm as whole_ppm
                from {{adjustment_taxes}} as t join {{adjustments}} as w on w.{AGGREGATE_ID} = t.{AGGREGATE_ID}
            ) as a""",
    ),
)
"""Lines with one tax have no rows in the tables of several taxes; only the first identity applies to them."""
