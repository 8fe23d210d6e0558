"""Jobs over the graph: draining a pod, comparing, measuring freshness, drills, expectations.

Belongs here: which assets and checks a job runs. Does not belong here: when it runs (`definitions.py`), jobs that keep
stores small (`upkeep.py`), repairs (`repairs.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.copies import COPY_KEYS
from assets.graph import LOG, OUTBOX, pod_partitions
from assets.trust import DRILLS
from contracts.runs import DRAIN_TAG, INCREMENTAL, RECONCILIATION_TAG


def drain_job(pods: Sequence[str]) -> UnresolvedAssetJobDefinition:
    """Return the job that drains a pod's outbox into every copy; the pod is the partition of the run."""
    return dg.define_asset_job(
        name="drain",
        selection=dg.AssetSelection.assets(OUTBOX, LOG, *COPY_KEYS.values()) - dg.AssetSelection.all_asset_checks(),
        config=dg.PartitionedConfig(
            partitions_def=pod_partitions(pods),
            run_config_for_partition_key_fn=lambda pod: {},
            tags_for_partition_key_fn=lambda pod: {DRAIN_TAG: pod},
        ),
        description="Publishes what a pod has committed and applies it to the lake and the read models (batch mode). "
        "Beside running workers it waits until they have passed this moment.",
    )


def incremental_reconciliation_job(checks: dg.AssetChecksDefinition) -> UnresolvedAssetJobDefinition:
    """Return the job that compares what changed and the sweep's next part, for every pair, at one cut per pod."""
    return dg.define_asset_job(
        name="incremental_reconciliation",
        selection=dg.AssetSelection.checks(*checks.check_keys),
        tags={RECONCILIATION_TAG: INCREMENTAL},
        description="Takes a cut of every pod and compares in every pair what changed since the last run, what has "
        "breaks, and a rotating part of the rest; builds the warehouse to the cuts first.",
    )


def reconciliation_job(checks: dg.AssetChecksDefinition) -> UnresolvedAssetJobDefinition:
    """Return the job that compares every pair completely, at one cut per pod."""
    return dg.define_asset_job(
        name="reconciliation",
        selection=dg.AssetSelection.checks(*checks.check_keys),
        tags={RECONCILIATION_TAG: "complete"},
        description="Takes a cut of every pod and compares every pair at it, key by key; what closing a month needs.",
    )


def freshness_job(*checks: dg.AssetChecksDefinition) -> UnresolvedAssetJobDefinition:
    """Return the job that measures freshness in data time, and checks that alerts reach people."""
    return dg.define_asset_job(
        name="freshness",
        selection=dg.AssetSelection.checks(*(key for one in checks for key in one.check_keys)),
        description="Age of the oldest event that the log and every copy do not have; whether alerts get through; "
        "whether the sweep comes round in time.",
    )


def drills_job(checks: dg.AssetChecksDefinition) -> UnresolvedAssetJobDefinition:
    """Return the job that drills every copy, and then checks the proofs."""
    return dg.define_asset_job(
        name="drills",
        selection=dg.AssetSelection.assets(DRILLS) | dg.AssetSelection.checks(*checks.check_keys),
        description="Breaks every copy on purpose, on a system of its own, and records what held.",
    )


def expectations_job(checks: dg.AssetChecksDefinition) -> UnresolvedAssetJobDefinition:
    """Return the job that runs every suite of expectations.

    It is a job of its own because importing Great Expectations is slow; no other job should wait for it.
    """
    return dg.define_asset_job(
        name="expectations",
        selection=dg.AssetSelection.checks(*checks.check_keys),
        description="Runs Great Expectations over the tables of every pod and the finance marts; builds Data Docs.",
    )
