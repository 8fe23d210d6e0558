"""The copies that follow the log, pod by pod, and those that do not: the cart, whose two stores are merged.

Workers apply the log continuously. Materializing a partition applies what is in the log now (batch mode) and reports
the copy's position.

Belongs here: assets of copies. Does not belong here: how a copy applies the log (`derived/`).
"""

from collections.abc import Sequence
from contextlib import closing

import dagster as dg
from dagster import AssetExecutionContext

from assets.graph import LOG, OWNERS, contract_metadata, pod_partitions
from assets.platform import PLATFORM, Platform, platform_of
from contracts.ownership import CART, FOLLOWERS, Copy, absent_copies
from streams.clocks import database_clock
from streams.consumer import Consumer
from streams.lag import ProjectionLag, observe
from streams.logs import build_log

COPY_KEYS = {copy.name: dg.AssetKey(copy.asset) for copy in FOLLOWERS}
"""Asset key by the name of its projection."""
MERGED_KEYS = {CART.name: dg.AssetKey(CART.asset)}
"""Asset key of copies that do not follow the log."""
ALL_KEYS = {**COPY_KEYS, **MERGED_KEYS}


def apply_log(platform: Platform, projection_name: str, pod: str) -> ProjectionLag:
    """Apply the log's present content of a pod to a projection; return the projection's lag afterwards."""
    with (
        closing(build_log(platform.settings)) as log,
        closing(platform.build_projection(projection_name)) as projection,
    ):
        Consumer(projection, pod, log).drain()
        clock = database_clock(platform.settings.pod(pod).reader_dsn)
        return observe(projection, pod, log, clock=clock)


def lag_metadata(lag: ProjectionLag) -> dict[str, int | float | str]:
    """Return a copy's lag as asset metadata."""
    return {
        "cut": lag.applied_cut,
        "log_cut": lag.log_cut,
        "lag_events": lag.lag_events,
        "lag_seconds": lag.lag_seconds,
        "parked": lag.parked,
        "state": lag.state,
    }


def copy_asset(declared: Copy, pods: Sequence[str]) -> dg.AssetsDefinition:
    """Return the asset of one copy, partitioned by pod."""

    @dg.asset(
        key=declared.asset,
        deps=[LOG],
        partitions_def=pod_partitions(pods),
        group_name=declared.asset[0],
        owners=OWNERS,
        kinds=set(declared.shown_as),
        description=declared.description,
        metadata=contract_metadata(declared.name),
        required_resource_keys={PLATFORM},
    )
    def copy(context: AssetExecutionContext) -> dg.MaterializeResult[None]:
        if declared.name in absent_copies(platform_of(context).settings):
            return dg.MaterializeResult(metadata={"state": "this system has none"})
        lag = apply_log(platform_of(context), declared.name, context.partition_key)
        return dg.MaterializeResult(data_version=dg.DataVersion(str(lag.applied_cut)), metadata=lag_metadata(lag))

    return copy


def merged_spec(declared: Copy) -> dg.AssetSpec:
    """Return the asset of a copy that does not follow the log: Dagster only looks at it."""
    return dg.AssetSpec(
        declared.asset,
        group_name=declared.asset[0],
        owners=OWNERS,
        kinds=set(declared.shown_as),
        description=declared.description,
        metadata=contract_metadata(declared.name),
    )
