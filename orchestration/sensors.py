"""The heartbeat: once a minute, copies that are within their target are reported as materialized.

So Dagster's freshness policies (which see materializations only) turn when a copy stops keeping up, without a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import dagster as dg

from assets.copies import COPY_KEYS, lag_metadata
from assets.graph import log_key
from assets.platform import PLATFORM, Platform, platform_of
from checks.freshness import lags_of
from contracts.ownership import LOG, copy_named
from streams.draining import observe_pod

HEARTBEAT_SECONDS = 60


def log_beats(platform: Platform) -> Iterator[dg.AssetMaterialization]:
    """Yield a materialization for every pod whose outbox is published within the target."""
    for pod in platform.settings.pods:
        seen = observe_pod(pod, platform.settings)
        if seen.oldest_unpublished_seconds <= LOG.freshness_seconds:
            metadata: Mapping[str, int | float] = {
                "cut": seen.cut,
                "unpublished_events": seen.unpublished_events,
                "lag_seconds": seen.oldest_unpublished_seconds,
            }
            yield dg.AssetMaterialization(asset_key=log_key(pod.pod), metadata=metadata)


def copy_beats(platform: Platform) -> Iterator[dg.AssetMaterialization]:
    """Yield a materialization per pod for every copy that is within its target in all pods.

    A copy is one asset, whose freshness policy sees the last materialization of any partition: a pod that keeps up
    would hide one that does not.
    """
    for name, key in COPY_KEYS.items():
        lags = lags_of(platform, name)
        if all(lag.lag_seconds <= copy_named(name).freshness_seconds and lag.state != "gap" for lag in lags):
            for lag in lags:
                yield dg.AssetMaterialization(asset_key=key, partition=lag.pod, metadata=lag_metadata(lag))


@dg.sensor(
    name="heartbeat",
    minimum_interval_seconds=HEARTBEAT_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={PLATFORM},
    description="Reports copies that keep up as alive, for the freshness policies.",
)
def heartbeat(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Report which copies keep up now."""
    platform = platform_of(context)
    return dg.SensorResult(asset_events=[*log_beats(platform), *copy_beats(platform)])
