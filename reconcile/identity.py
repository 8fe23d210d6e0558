"""The type of an identity of OLTP's figures: two figures of the same rows that must agree.

Belongs here: that type, and the forms that several of them have. Does not belong here: which identities exist
(`oltp_identities.py`, `tax_identities.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from reconcile.entities import AGGREGATE_ID
from reconcile.shapes import HUGEINT, Column, Shape, belongs_to

LINES = "{order_lines} as l"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Two figures of the same rows: `expected` is computed from the parts, `actual` is stored.

    `rows` is DuckDB SQL that returns aggregate_id, merchant_id, currency, expected and actual; one row per figure. A
    row breaks the identity when the two figures differ, or, for a limit, when `actual` is larger.
    """

    name: str
    aggregate_type: str
    rows: str
    is_limit: bool = False

    @property
    def shape(self) -> Shape:
        """The shape of a difference: the aggregate is the key, the figure the column."""
        return Shape(
            name=f"{self.aggregate_type}.{self.name}",
            key=(AGGREGATE_ID,),
            columns=(Column(name=self.name, type=HUGEINT),),
            currency="currency",
            aggregate=belongs_to(self.aggregate_type, AGGREGATE_ID),
        )


def sum_of_parts(
    root: str, aggregate_type: str, column: str, parts: str, amount: str, name: str | None = None
) -> Identity:
    """Return the identity: a root's amount is the sum over its parts."""
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


def of_line(name: str, expected: str, actual: str, rows: str = LINES, *, is_limit: bool = False) -> Identity:
    """Return an identity, or a limit, of an order's line or of one of its taxes; the rows have the alias `l`."""
    return Identity(
        name=name,
        aggregate_type="order",
        is_limit=is_limit,
        rows=f"""
            select l.{AGGREGATE_ID}, l.merchant_id, o.currency, {expected} as expected, {actual} as actual
            from {rows} left join {{orders}} as o on o.{AGGREGATE_ID} = l.{AGGREGATE_ID}""",
    )
