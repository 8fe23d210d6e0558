"""Figures of operations and of finance: the totals of both sides, per currency, at the same cut.

Belongs here: the few totals that people look at first. Does not belong here: finding differences (the pairs compare
every key; totals alone prove nothing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconcile.by_day import BY_DAY_QUERIES
from reconcile.finance_pairs import write_as_of
from reconcile.oltp_side import left_name
from reconcile.pair import PodRun
from reconcile.scratch import table

FIGURES = (
    "order_count",
    "placed_minor",
    "cancelled_minor",
    "discount_minor",
    "tax_minor",
    "captured_minor",
    "refunded_minor",
    "net_minor",
    "adjusted_minor",
    "rounding_micro",
)
"""Names of the figures in the order of the report; the suffix is the unit."""

OPERATIONAL = """
    with figure as (
        from {orders_by_day}
        union all by name
        select currency, captured_minor, captured_minor as net_minor from {captures_by_day}
        union all by name
        select currency, refunded_minor, -refunded_minor as net_minor, -tax_minor as tax_minor from {refunds_by_day}
        union all by name
        from {adjustments_by_day}
    )
    select currency, {sums} from figure group by currency order by currency
"""
FINANCE = "select currency, {sums} from {daily} group by currency order by currency"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure in one currency, with the values of operations and of finance; `name` ends with the unit."""

    pod: str
    cut: int | None
    """The cut of both sides; None for a total over pods."""
    currency: str
    name: str
    operational: int | None
    """None: this side has nothing in this currency."""
    finance: int | None

    @property
    def difference(self) -> int | None:
        """Finance less operations; None when one side has no value."""
        return None if self.operational is None or self.finance is None else self.finance - self.operational


def figures_of(run: PodRun) -> list[Figure]:
    """Return every figure of a pod, ordered by currency. OLTP must have been read, and the warehouse have the cut."""
    connection = run.connection
    sums = ", ".join(f"coalesce(sum({name}), 0)::HUGEINT as {name}" for name in FIGURES)
    tables = {name: table(left_name(run.pod, name)) for name in BY_DAY_QUERIES}
    operational = connection.execute(OPERATIONAL.format(sums=sums, **tables)).fetchall()
    daily = table("daily_figures")
    write_as_of(run, daily, "lake.marts.daily_sales")
    finance = connection.execute(FINANCE.format(sums=sums, daily=daily)).fetchall()
    left, right = ({row[0]: row[1:] for row in rows} for rows in (operational, finance))
    return [
        Figure(
            pod=run.pod,
            cut=run.cut,
            currency=currency,
            name=name,
            operational=int(left[currency][number]) if currency in left else None,
            finance=int(right[currency][number]) if currency in right else None,
        )
        for currency in sorted(left.keys() | right.keys())
        for number, name in enumerate(FIGURES)
    ]


def total_figures(figures: Sequence[Figure]) -> list[Figure]:
    """Return the sums over pods, by currency and figure; a side without a value in a pod adds nothing."""
    keys = dict.fromkeys((figure.currency, figure.name) for figure in sorted(figures, key=lambda item: item.currency))
    return [
        Figure(
            pod="all",
            cut=None,
            currency=currency,
            name=name,
            operational=_sum([f.operational for f in figures if (f.currency, f.name) == (currency, name)]),
            finance=_sum([f.finance for f in figures if (f.currency, f.name) == (currency, name)]),
        )
        for currency, name in keys
    ]


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
