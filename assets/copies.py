"""The copies that are built from the log: the lake and the read models, pod by pod.

Workers apply the log all the time; materializing a partition applies what is in the log now (batch mode) and reports
where the copy stands.
"""

from collections.abc import Sequence

import dagster as dg
from dagster import AssetExecutionContext

from assets.graph import (
    ACCOUNT_VIEW,
    FULFILLMENT_VIEW,
    LAKE_EVENTS,
    LOG,
    OWNERS,
    contract_metadata,
    pod_partitions,
)
from assets.platform import PLATFORM, Platform, platform_of
from streams.clocks import database_clock
from streams.consumer import Consumer
from streams.lag import ProjectionLag, observe
from streams.logs import build_log

COPY_KEYS = {"lake": LAKE_EVENTS, "account_view": ACCOUNT_VIEW, "fulfillment_view": FULFILLMENT_VIEW}
"""Asset key by the name of its projection."""

DESCRIPTIONS = {
    "lake": "Every event of every pod, once, append-only: the memory that all other copies can be rebuilt from.",
    "account_view": "A customer's orders, payments, refunds and entitlements, as the customer's page shows them.",
    "fulfillment_view": "What is left to ship, per merchant.",
}
KINDS = {"lake": {"ducklake", "parquet"}, "account_view": {"postgres"}, "fulfillment_view": {"postgres"}}


def apply_log(platform: Platform, projection_name: str, pod: str) -> ProjectionLag:
    """Apply to a projection what the log has of a pod now; return where it stands then."""
    projection = platform.build_projection(projection_name)
    log = build_log(platform.settings)
    try:
        Consumer(projection, pod, log).drain()
        clock = database_clock(platform.settings.pod(pod).reader_dsn)
        return observe(projection, pod, log, clock=clock)
    finally:
        log.close()


def lag_metadata(lag: ProjectionLag) -> dict[str, int | float | str]:
    """Return where a copy stands, as asset metadata."""
    return {
        "cut": lag.applied_cut,
        "log_cut": lag.log_cut,
        "lag_events": lag.lag_events,
        "lag_seconds": lag.lag_seconds,
        "parked": lag.parked,
        "state": lag.state,
    }


def copy_asset(name: str, pods: Sequence[str]) -> dg.AssetsDefinition:
    """Return the asset of one copy, partitioned by pod."""
    key = COPY_KEYS[name]

    @dg.asset(
        key=key,
        deps=[LOG],
        partitions_def=pod_partitions(pods),
        group_name="lake" if name == "lake" else "read_models",
        owners=OWNERS,
        kinds=KINDS[name],
        description=DESCRIPTIONS[name],
        metadata=contract_metadata(name),
        required_resource_keys={PLATFORM},
    )
    def copy(context: AssetExecutionContext) -> dg.MaterializeResult[None]:
        lag = apply_log(platform_of(context), name, context.partition_key)
        return dg.MaterializeResult(data_version=dg.DataVersion(str(lag.applied_cut)), metadata=lag_metadata(lag))

    return copy
