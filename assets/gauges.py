"""Gauges: per copy and pod, a node whose freshness policy depends on the age of the data.

Dagster's policies only see when an asset was last materialized, in any of its partitions. On the copy itself a policy
would turn green when one pod is drained, or when the warehouse is built from a lake that is hours behind. Therefore the
policies are on gauges. Only the heartbeat materializes a gauge, and only while the oldest event that the copy lacks is
younger than the contract's target, in every partition of the pod.

Belongs here: these nodes. Does not belong here: reporting them (`orchestration/sensors.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from assets.graph import OWNERS, contract_metadata, freshness_of
from contracts.ownership import COPIES, Copy, copy_named

GROUP = "freshness"


def gauge_key(copy_name: str, pod: str) -> dg.AssetKey:
    """Return the key of a copy's gauge in a pod; the graph shows only the key's last part."""
    return dg.AssetKey([GROUP, f"{copy_name}__{pod}"])


def checked_key(copy_name: str) -> dg.AssetKey:
    """Return the asset that holds a copy of the facts."""
    return dg.AssetKey(copy_named(copy_name).asset)


def gauge_spec(copy: Copy, pod: str) -> dg.AssetSpec:
    """Return the gauge of a copy in a pod."""
    return dg.AssetSpec(
        gauge_key(copy.name, pod),
        deps=[checked_key(copy.name)],
        group_name=GROUP,
        owners=OWNERS,
        kinds={"freshness"},
        description=f"Whether the {copy.name.replace('_', ' ')} keeps up with {pod}: fresh while the oldest event that "
        f"it does not have is younger than {copy.freshness_seconds} s, in every partition. Reported by the sensor "
        "`heartbeat` and by nothing else, so no backfill turns it; an idle pod stays fresh.",
        freshness_policy=freshness_of(copy),
        metadata=contract_metadata(copy.name),
    )


def gauges(pods: Sequence[str]) -> list[dg.AssetSpec]:
    """Return every gauge."""
    return [gauge_spec(copy, pod) for copy in COPIES for pod in pods]
