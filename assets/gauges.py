"""Gauges: per copy and pod, a node whose freshness policy turns with the age of the data.

Dagster's policies see when an asset was last materialized, over all of its partitions: draining one pod, or building
the warehouse from a lake that is hours behind, would turn a policy on the copy itself green. So the policies are on
gauges, which nothing materializes but the heartbeat, and the heartbeat only while the oldest event that the copy does
not have is younger than the contract's target, in every partition of the pod.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from assets.graph import OWNERS, contract_metadata, freshness_of
from contracts.ownership import COPIES, Copy, copy_named

GROUP = "freshness"


def gauge_key(copy_name: str, pod: str) -> dg.AssetKey:
    """Return the key of the gauge of a copy in a pod; the graph shows its last part."""
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
