"""Counts the facts that a pod has recorded since a cut, by their business day.

Belongs here: that count over the outbox. Does not belong here: what is published (`streams/outbox_reading.py`), which
days belong to which month (`finance/periods.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import psycopg

from contracts.errors import PropagationError
from streams.cuts import BEFORE_ALL, cuts_from, last_cut

# The day (UTC) on which finance books a fact: of an order its placing, of a refund its completion, or its failing.
BUSINESS_DAY = """(coalesce(
    (case when aggregate_type = 'order' and aggregate_version = 1 then payload #>> '{state,placed_at}'
          when aggregate_type = 'refund' then coalesce(
              payload #>> '{state,failed_at}', payload #>> '{state,completed_at}'
          ) end)::timestamptz,
    occurred_at
) at time zone 'utc')::date"""

AFTER_CUT = f"""
with facts as (
    select aggregate_type, {BUSINESS_DAY} as day from oltp.outbox
    where (xid >= %(xmax)s::xid8 or xid = any(%(xip)s::xid8[])) and aggregate_type = any(%(types)s)
)
select aggregate_type, count(*) filter (where day < %(first_day)s) as before,
       count(*) filter (where day between %(first_day)s and %(last_day)s) as within,
       count(*) filter (where day > %(last_day)s) as later
from facts group by aggregate_type order by aggregate_type
"""


@dataclass(frozen=True, kw_only=True)
class DayCounts:
    """Numbers of facts of one aggregate type: before, within and after a range of business days."""

    aggregate_type: str
    before: int
    """Facts before the first day of the range."""
    within: int
    later: int


@dataclass(frozen=True, kw_only=True)
class AfterCut:
    """The facts that the outbox has after a cut."""

    counts: tuple[DayCounts, ...]
    outbox_from_cut: int
    """Only facts after this cut were counted: it is the requested cut, or the cut up to which the outbox is pruned."""
    last_cut: int
    """The newest cut that the pod has registered."""


def recorded_after(dsn: str, cut: int, types: Sequence[str], first_day: date, last_day: date) -> AfterCut:
    """Count the facts of some aggregate types that the pod at `dsn` has committed and that are not in cut `cut`.

    Transactions that have not committed are not counted. Raises PropagationError when the pod has no such cut.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        newest = last_cut(connection)
        known = cuts_from(connection, cut, limit=1)
        if cut > 0 and not known:
            raise PropagationError(f"it knows no cut {cut}: its newest is {newest.cut if newest else 0}")
        base = known[0] if cut > 0 else None
        bound = {
            **(base.seen() if base else BEFORE_ALL).after(),
            "types": list(types),
            "first_day": first_day,
            "last_day": last_day,
        }
        rows = connection.execute(AFTER_CUT, bound).fetchall()
    return AfterCut(
        counts=tuple(DayCounts(aggregate_type=kind, before=a, within=b, later=c) for kind, a, b, c in rows),
        outbox_from_cut=base.cut if base else 0,
        last_cut=newest.cut if newest else 0,
    )
