"""Names of the graph: asset keys, groups and owners, and how the contract's freshness becomes Dagster's.

Belongs here: what several asset modules and the checks must agree on. Does not belong here: assets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from contracts import ownership
from contracts.events import STATE_TYPES
from contracts.ownership import Copy, copy_named

OWNERS = ["team:data-platform"]
FINANCE_OWNERS = ["team:finance"]

OUTBOX = dg.AssetKey(["propagation", "outbox"])
LOG = dg.AssetKey(ownership.LOG.asset)
LAKE_EVENTS = dg.AssetKey(ownership.LAKE.asset)


def oltp_key(aggregate_type: str) -> dg.AssetKey:
    """Return the key of the OLTP tables of one aggregate type."""
    return dg.AssetKey(["oltp", aggregate_type])


OLTP_KEYS = tuple(oltp_key(aggregate_type) for aggregate_type in STATE_TYPES)


def pod_partitions(pods: Sequence[str]) -> dg.StaticPartitionsDefinition:
    """Return the partitions of assets that are processed pod by pod."""
    return dg.StaticPartitionsDefinition(list(pods))


def freshness_of(copy: Copy) -> dg.FreshnessPolicy:
    """Return Dagster's policy for a copy's gauge: it holds while the copy's lag is within the contract's target.

    Dagster only sees materializations, at most one a minute (`orchestration/sensors.py` reports them). The exact lag
    in data time is an asset check (`checks/freshness.py`).
    """
    beat = timedelta(minutes=3)
    return dg.FreshnessPolicy.time_window(
        warn_window=timedelta(seconds=copy.freshness_seconds) + beat,
        fail_window=timedelta(seconds=copy.late_seconds_max) + 2 * beat,
    )


def contract_metadata(name: str) -> dict[str, str]:
    """Return the contract's terms for a copy, as asset metadata."""
    copy = copy_named(name)
    return {
        "store": copy.store,
        "rebuilt_by": copy.rebuilt_by,
        "when_down": copy.when_down,
        "fresh_within": f"{copy.freshness_seconds} s",
        "late_not_wrong_up_to": f"{copy.late_seconds_max} s",
        "runbook": f"docs/{copy.runbook}",
    }


def mart_key(name: str) -> dg.AssetKey:
    """Return the key of a mart: its folder in dbt_project/models and its name."""
    return dg.AssetKey(["marts", name])
