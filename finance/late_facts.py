"""Facts that belong to a month and were recorded after the cuts at which it would be closed.

Belongs here: counting them per pod and kind of fact, also in the lake, and the sentences about them. Does not belong
here: the outbox (`streams/recorded_after.py`), the rules of closing (`finance/closing.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from contracts.events.upcasting import newest_sql
from contracts.settings import PodSettings
from contracts.text import counted
from derived.reports import Connection
from finance.periods import Period
from streams.recorded_after import AfterCut, DayCounts, recorded_after

BOOKED = ("adjustment", "gift_card", "order", "payment", "refund")
"""Aggregate types whose events are facts in finance's reports."""

# A fact's day is computed as in streams/recorded_after.py. An event that the lake has twice counts once.
ORDER, REFUND = newest_sql("order"), newest_sql("refund")
LAKE_FACTS = f"""
with facts as (
    select distinct event_id, aggregate_type, cast(coalesce(
        case when aggregate_type = 'order' and aggregate_version = 1
             then try_cast({ORDER} ->> '$.state.placed_at' as timestamptz)
             when aggregate_type = 'refund' then coalesce(
                 try_cast({REFUND} ->> '$.state.failed_at' as timestamptz),
                 try_cast({REFUND} ->> '$.state.completed_at' as timestamptz)
             ) end,
        occurred_at
    ) at time zone 'utc' as date) as day
    from lake.raw.events
    where pod = $pod and aggregate_type in (select unnest($types))
      and (cut > $after and cut <= $through or cut > $beyond)
)
select aggregate_type, count(*) filter (where day < $first_day), count(*) filter (where day between $first_day and
       $last_day), count(*) filter (where day > $last_day)
from facts group by aggregate_type order by aggregate_type
"""


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """What a pod has recorded after the cut at which the month would be closed."""

    pod: str
    cut: int
    counts: tuple[DayCounts, ...] = ()
    """One entry per kind of fact; `within` counts the days of the month."""
    unknown: str = ""
    """Why the counts are not known; empty if they are."""

    @property
    def belonging(self) -> int:
        """Number of facts of the month's days, or of earlier days that would be posted in it as late arrivals."""
        return sum(found.before + found.within for found in self.counts)

    def obstacles(self, period: Period) -> Iterator[str]:
        """Yield why the month cannot be closed at this cut."""
        if self.unknown:
            yield f"what {self.pod} has recorded after cut {self.cut} is not known: {self.unknown}"
        elif self.belonging:
            found = [
                f"{item.before + item.within:,} of {item.aggregate_type}s"
                for item in self.counts
                if item.before + item.within
            ]
            yield (
                f"{counted(self.belonging, 'event')} of days up to {period.last_day} "
                f"{'lies' if self.belonging == 1 else 'lie'} after cut {self.cut} of {self.pod} "
                f"({', '.join(found)}); run `tieout reconcile`, which takes a later cut"
            )


def remaining(pod: PodSettings, lake: Connection, cut: int, period: Period) -> Remaining:
    """Count what a pod has recorded after a cut: in its outbox, and in the lake if the outbox was pruned or set back.

    Raises psycopg.Error if the pod does not answer, PropagationError if it does not know the cut.
    """
    found = recorded_after(pod.reader_dsn, cut, BOOKED, period.first_day, period.last_day)
    return Remaining(pod=pod.pod, cut=cut, counts=_added(found.counts, _of_lake(lake, pod.pod, cut, found, period)))


def _of_lake(lake: Connection, pod: str, cut: int, found: AfterCut, period: Period) -> Sequence[DayCounts]:
    """Count the lake's facts of cuts with pruned outbox rows, and of cuts that the pod's database does not know."""
    bound = {
        "pod": pod,
        "types": list(BOOKED),
        "after": cut,
        "through": found.outbox_from_cut,
        "beyond": found.last_cut,
        "first_day": period.first_day,
        "last_day": period.last_day,
    }
    rows = lake.execute(LAKE_FACTS, bound).fetchall()
    return [DayCounts(aggregate_type=kind, before=a, within=b, later=c) for kind, a, b, c in rows]


def _added(*parts: Sequence[DayCounts]) -> tuple[DayCounts, ...]:
    sums: dict[str, list[int]] = {}
    for one in (one for part in parts for one in part):
        numbers = sums.setdefault(one.aggregate_type, [0, 0, 0])
        for place, number in enumerate((one.before, one.within, one.later)):
            numbers[place] += number
    return tuple(
        DayCounts(aggregate_type=kind, before=a, within=b, later=c) for kind, (a, b, c) in sorted(sums.items())
    )
