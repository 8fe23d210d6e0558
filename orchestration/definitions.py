"""The graph: OLTP, outboxes, log, lake and read models, with all comparisons; the warehouse is in `warehouse.py`.

All of it is one code location, so Dagster's pages can launch a check, or a mart with its checks, from the asset's page.

Importing this module reads nothing. Dagster calls `defs` when it loads the code location, whether servers run or not.

Belongs here: which assets, checks, jobs, schedules and sensors there are. Does not belong here: any of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from assets.copies import copy_asset, merged_spec
from assets.gauges import gauges
from assets.oltp import oltp_tables
from assets.propagation import drain_asset
from assets.trust import alerts as alerts_table
from assets.trust import breaks as breaks_table
from assets.trust import drills
from assets.warehouse import DBT, build_dbt_resource
from checks.alerts import alert_path
from checks.drills import last_proofs
from checks.freshness import freshness
from checks.pairs import comparisons
from checks.quality import expectations
from checks.sweep import sweep
from contracts.ownership import CART, FOLLOWERS
from contracts.settings import Settings
from orchestration import warehouse
from orchestration.alerts import alerts
from orchestration.history import history_pruning
from orchestration.jobs import (
    drain_job,
    drills_job,
    expectations_job,
    freshness_job,
    incremental_reconciliation_job,
    reconciliation_job,
)
from orchestration.measures import measures_sensor
from orchestration.repairs import repair_job, repair_sensor
from orchestration.reservations import reservation_expiry, reservations
from orchestration.resources import build_resources
from orchestration.schedules import CHANGES, every, reconciling
from orchestration.sensors import heartbeat
from orchestration.unstarted import settings_of_graph
from orchestration.upkeep import (
    key_pruning,
    lake_compaction,
    log_trimming,
    outbox_pruning,
    results_pruning,
)

UPKEEP = (
    lake_compaction,
    outbox_pruning,
    log_trimming,
    results_pruning,
    reservation_expiry,
    key_pruning,
    history_pruning,
)


def build_graph(settings: Settings) -> dg.Definitions:
    """Return the whole graph for these settings. Connects to nothing; parses the dbt project if it has changed."""
    resources = {**build_resources(settings), DBT: build_dbt_resource(settings)}
    parts = (build_definitions(settings, resources), warehouse.build_definitions(settings, resources))
    return dg.Definitions.merge(*parts)


def build_definitions(settings: Settings, resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """Return everything but the warehouse for these settings; connects to nothing."""
    pods = [pod.pod for pod in settings.pods]
    reconciliation = reconciliation_job(comparisons)
    incremental_reconciliation = incremental_reconciliation_job(comparisons)
    repairs = [repair_job(pod) for pod in pods]
    freshness_run = freshness_job(freshness, alert_path, last_proofs, sweep)
    drills_run = drills_job(last_proofs)
    suites = expectations_job(expectations)
    return dg.Definitions(
        assets=[
            oltp_tables,
            drain_asset(pods),
            *(copy_asset(copy, pods) for copy in FOLLOWERS),
            merged_spec(CART),
            breaks_table,
            alerts_table,
            drills,
            *gauges(pods),
        ],
        asset_checks=[comparisons, freshness, alert_path, last_proofs, expectations, sweep],
        jobs=[
            drain_job(pods),
            *repairs,
            reconciliation,
            incremental_reconciliation,
            freshness_run,
            drills_run,
            suites,
            *UPKEEP,
        ],
        schedules=[
            every(incremental_reconciliation, "*/10 * * * *", CHANGES, unless=reconciling(settings)),
            every(reconciliation, "47 1 * * *", "Compares everything at a new cut."),
            every(drills_run, "17 2 * * *", "Proves every night that every copy can be lost and rebuilt."),
            # Some minutes after each build: a check of a mart counts as not evaluated from the build until this run.
            every(suites, "11-59/15 * * * *", "Looks at the rows of OLTP and of the finance marts; builds Data Docs."),
            every(lake_compaction, "23 * * * *", "Keeps the lake's files few."),
            every(outbox_pruning, "41 3 * * *", "Prunes outboxes behind the verified backup."),
            every(key_pruning, "11 4 * * *", "Removes idempotency keys whose lease is over."),
            every(results_pruning, "37 * * * *", "Keeps the table of comparison results small."),
            every(history_pruning, "29 * * * *", "Keeps Dagster's own history small."),
            every(log_trimming, "53 * * * *", "Keeps the log small."),
        ],
        sensors=[heartbeat, alerts, measures_sensor(suites), reservations, repair_sensor(repairs)],
        executor=dg.in_process_executor,
        resources=resources or build_resources(settings),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Return the graph of this environment; if no system was started here, the graph with placeholder settings."""
    return build_graph(settings_of_graph())
