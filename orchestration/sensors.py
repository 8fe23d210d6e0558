"""The heartbeat: once a minute it reports every copy that is within its freshness target in data time, and only those.

Dagster's freshness policies only see materializations; they are on gauges, which only the heartbeat materializes. So a
policy fails when a copy falls behind a pod, without a run. A copy that cannot be measured is not reported, so its
policies fail too.

Belongs here: the heartbeat. Does not belong here: measuring the lag (`checks/freshness.py`), the gauges
(`assets/gauges.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from assets.copies import COPY_KEYS
from assets.gauges import gauge_key
from assets.platform import PLATFORM, Platform, platform_of
from checks.freshness import DataLag, lags_of
from contracts.ownership import COPIES, Copy

HEARTBEAT_SECONDS = 60


Beat = dg.AssetMaterialization | dg.AssetObservation


def beats(copy: Copy, lags: list[DataLag]) -> Iterator[Beat]:
    """Yield a materialization of the gauge of every pod that a copy keeps up with.

    If the copy has a partition for the pod, it is reported too, for the copy's page; no policy looks at it. It is an
    observation, because each materialization would make every check of the copy count as not evaluated.
    """
    for lag in lags:
        if not lag.is_fresh(copy):
            continue
        metadata = {"lag_seconds": lag.lag_seconds, "lag_events": lag.lag_events}
        yield dg.AssetMaterialization(asset_key=gauge_key(copy.name, lag.pod), metadata=metadata)
        if copy.name in COPY_KEYS:
            yield dg.AssetObservation(asset_key=COPY_KEYS[copy.name], partition=lag.pod, metadata=metadata)


def fresh_now(platform: Platform, log: dg.SensorEvaluationContext) -> Iterator[Beat]:
    """Yield the heartbeats of every copy that can be measured."""
    for copy in COPIES:
        try:
            lags = lags_of(platform, copy.name)
        except Exception as error:  # any error: skip this copy, report the others
            log.log.warning(f"The {copy.name} could not be looked at ({type(error).__name__}); it does not beat.")
            continue
        yield from beats(copy, lags)


@dg.sensor(
    name="heartbeat",
    minimum_interval_seconds=HEARTBEAT_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={PLATFORM},
    description="Reports what keeps up in data time, per copy and pod, to the gauges that freshness policies are on.",
)
def heartbeat(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Report what keeps up now."""
    return dg.SensorResult(asset_events=list(fresh_now(platform_of(context), context)))
