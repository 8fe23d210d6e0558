"""Freshness in data time: per copy, pod and partition, the age of the oldest event that the copy does not have.

The age is 0 for a copy that has every event, however old the events are, so an idle pod is never late. Applying old
events again does not change it, so a backfill or a rebuild cannot turn a check green. An event that waits in the pod's
outbox is in no copy, so it counts for all of them. The check cannot see an event that never reached the outbox: the
comparisons find those.

Belongs here: measuring copies and reporting it. Does not belong here: the targets (`contracts/ownership.py`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import dagster as dg
from dagster import AssetCheckExecutionContext

from assets.gauges import checked_key
from assets.platform import PLATFORM, Platform, platform_of
from contracts.ownership import CART, COPIES, LOG, WAREHOUSE, Copy, Lateness, absent_copies, copy_named
from contracts.settings import Settings
from contracts.text import are, counted
from derived.warehouse_lag import observe_warehouse
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from streams.clocks import database_clock
from streams.draining import observe_pod
from streams.lag import ProjectionLag, observe
from streams.logs import build_log
from streams.outbox_reading import OutboxObservation

NAME = "data_is_fresh"
COLUMNS = ("pod", "place", "applied_cut", "lag_events", "lag_seconds", "state")
Row = Mapping[str, str | int | float]
FAULTS = {"gap": "has a gap", "ahead": "is ahead of its log"}
"""By state of a projection: faults that waiting does not repair."""


@dataclass(frozen=True, kw_only=True)
class DataLag:
    """How far a copy is behind one pod, over all places where events may wait on their way to it."""

    pod: str
    lag_seconds: float
    """Age of the oldest event that the copy does not have; 0.0 if it has every committed event."""
    lag_events: int
    fault: str = ""
    """Set if the log lacks what the copy needs next, or has less than the copy."""
    parked: int = 0
    """Aggregates whose events could not be applied."""
    places: tuple[Row, ...] = ()
    """Where events wait: the outbox, each partition of the log, the lake."""

    def is_fresh(self, copy: Copy) -> bool:
        """Return whether the copy is within the contract's target, without faults and parked events."""
        return copy.lateness(self.lag_seconds) is Lateness.FRESH and not self.fault and not self.parked

    def is_wrong(self, copy: Copy) -> bool:
        """Return whether the lag is longer than the contract still calls late, or the copy has a fault."""
        return copy.lateness(self.lag_seconds) is Lateness.OVERDUE or bool(self.fault)


def lags_of(platform: Platform, copy_name: str) -> list[DataLag]:
    """Return how far a copy is behind, per pod; a copy that this system does not have is not behind."""
    if copy_name in absent_copies(platform.settings):
        return [DataLag(pod=pod.pod, lag_seconds=0.0, lag_events=0) for pod in platform.settings.pods]
    if copy_name == CART.name:
        return _cart_lags(platform.settings)
    waiting = {pod.pod: observe_pod(pod, platform.settings) for pod in platform.settings.pods}
    if copy_name == LOG.name:
        return [_behind(pod, [_outbox_row(pod, seen)]) for pod, seen in waiting.items()]
    found = _projection_lags(platform, "lake" if copy_name == WAREHOUSE.name else copy_name)
    lags = [_data_lag(lag, _outbox_row(lag.pod, waiting[lag.pod])) for lag in found]
    return _with_build(platform, lags) if copy_name == WAREHOUSE.name else lags


def _cart_lags(settings: Settings) -> list[DataLag]:
    """Return per pod how many carts wait to be written through, and for how long the first one has."""
    with closing(CartServer(settings.carts_url)) as server:
        carts = ValkeyCarts(server, queued_max=settings.carts_queued_max)
        waiting = {pod.pod: carts.waiting(pod.pod) for pod in settings.pods}
    return [
        _behind(
            pod,
            [
                {
                    "pod": pod,
                    "place": "carts, not written through",
                    "applied_cut": 0,
                    "lag_events": number,
                    "lag_seconds": round(seconds, 3),
                    "state": "behind" if number else "current",
                }
            ],
        )
        for pod, (number, seconds) in waiting.items()
    ]


def _projection_lags(platform: Platform, projection_name: str) -> list[ProjectionLag]:
    with (
        closing(build_log(platform.settings)) as log,
        closing(platform.observed_projection(projection_name)) as projection,
    ):
        return [
            observe(projection, pod.pod, log, clock=database_clock(pod.reader_dsn)) for pod in platform.settings.pods
        ]


def _data_lag(lag: ProjectionLag, outbox: Row) -> DataLag:
    rows = [
        {
            "pod": lag.pod,
            "place": f"log, partition {item.partition}",
            "applied_cut": item.applied_cut,
            "lag_events": item.lag_events,
            "lag_seconds": round(item.lag_seconds, 3),
            "state": "behind" if item.lag_events else "current",
        }
        for item in lag.partitions
    ]
    return _behind(lag.pod, [outbox, *rows], fault=FAULTS.get(lag.state, ""), parked=lag.parked)


def _outbox_row(pod: str, seen: OutboxObservation) -> Row:
    return {
        "pod": pod,
        "place": "outbox",
        "applied_cut": seen.cut,
        "lag_events": seen.unpublished_events,
        "lag_seconds": round(seen.oldest_unpublished_seconds, 3),
        "state": f"published by {seen.held_by}" if seen.held_by else "published by nobody",
    }


def _with_build(platform: Platform, lags: Sequence[DataLag]) -> list[DataLag]:
    """Return the lake's lags with one more place: events that are in the lake and not in the marts."""
    built = observe_warehouse(platform.settings)
    return [
        _behind(
            lag.pod,
            [
                *lag.places,
                {
                    "pod": lag.pod,
                    "place": "lake, not built",
                    "applied_cut": build.built_cut,
                    "lag_events": build.lag_events,
                    "lag_seconds": round(build.lag_seconds, 3),
                    "state": "behind" if build.lag_events else "current",
                },
            ],
            fault=lag.fault,
            parked=lag.parked,
        )
        for lag, build in zip(lags, built, strict=True)
    ]


def _behind(pod: str, places: Sequence[Row], *, fault: str = "", parked: int = 0) -> DataLag:
    return DataLag(
        pod=pod,
        lag_seconds=max(float(row["lag_seconds"]) for row in places),
        lag_events=sum(int(row["lag_events"]) for row in places),
        fault=fault,
        parked=parked,
        places=tuple(places),
    )


def freshness_result(copy: Copy, key: dg.AssetKey, lags: Sequence[DataLag]) -> dg.AssetCheckResult:
    """Return the check of one copy: beyond its target it warns; beyond "late, not wrong" it is an error."""
    worst = max(lags, key=lambda lag: lag.lag_seconds)
    rows = [dg.TableRecord({column: row[column] for column in COLUMNS}) for lag in lags for row in lag.places]
    notes = [f"{lag.pod} {lag.fault}" for lag in lags if lag.fault]
    notes += [f"{counted(lag.parked, 'aggregate')} of {lag.pod} {are(lag.parked)} parked" for lag in lags if lag.parked]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=NAME,
        passed=all(lag.is_fresh(copy) for lag in lags),
        severity=dg.AssetCheckSeverity.ERROR if any(lag.is_wrong(copy) for lag in lags) else dg.AssetCheckSeverity.WARN,
        description=f"Oldest event it does not have: {worst.lag_seconds:.1f} s, of {worst.pod}; target "
        f"{copy.freshness_seconds} s.{''.join(f' {note}.' for note in notes)}",
        metadata={
            "lag_seconds": worst.lag_seconds,
            **{f"lag_seconds_{lag.pod}": lag.lag_seconds for lag in lags},
            "lag_events": sum(lag.lag_events for lag in lags),
            "places": dg.MetadataValue.table(rows, schema=dg.TableSchema([dg.TableColumn(name) for name in COLUMNS])),
            "runbook": f"docs/{copy.runbook}",
        },
    )


CHECKED = {copy.name: checked_key(copy.name) for copy in COPIES}
"""Copy name -> the asset whose check shows the copy's lag."""


def freshness_of_copies(platform: Platform, selected: Collection[dg.AssetKey]) -> Iterator[dg.AssetCheckResult]:
    """Measure the selected assets, and yield their checks."""
    for name, key in CHECKED.items():
        if key in selected:
            yield freshness_result(copy_named(name), key, lags_of(platform, name))


@dg.multi_asset_check(
    name="measure_freshness",
    specs=[
        dg.AssetCheckSpec(
            NAME,
            asset=key,
            description="Age of the oldest event it does not have, in data time, per pod and partition. No "
            "backfill changes it. Cannot catch: an event that never reached the outbox.",
        )
        for key in CHECKED.values()
    ],
    can_subset=True,
    required_resource_keys={PLATFORM},
)
def freshness(context: AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Measure the lag of the log and of every copy that is built from it."""
    selected = {key.asset_key for key in context.op_execution_context.selected_asset_check_keys}
    yield from freshness_of_copies(platform_of(context), selected)
