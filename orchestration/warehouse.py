"""The warehouse's part of the graph: dbt's models as assets, its tests as checks, and the finance reports on them.

Belongs here: these definitions. Does not belong here: comparisons and expectations of marts, which are defined with all
other checks (`definitions.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from assets.finance import finance_reports
from assets.warehouse import warehouse_assets
from contracts.errors import WarehouseError
from contracts.settings import Settings
from derived.warehouse import manifest_file, write_manifest
from orchestration.known import known_sensor
from orchestration.schedules import every

logger = logging.getLogger("tieout.warehouse")


def build_definitions(settings: Settings, resources: Mapping[str, object]) -> dg.Definitions:
    """Return the warehouse's part of the graph; connects to nothing."""
    warehouse = warehouse_assets(_manifest(settings))
    warehouse_build = dg.define_asset_job(
        name="warehouse_build",
        # A build runs dbt's own tests; comparisons and expectations of the marts have jobs of their own.
        selection=dg.AssetSelection.assets(warehouse, *finance_reports).without_checks()
        | dg.AssetSelection.checks(warehouse),
        description="Builds and tests every model at one vector of cuts, then the finance reports.",
    )
    return dg.Definitions(
        assets=[warehouse, *finance_reports],
        jobs=[warehouse_build],
        # Some minutes before the comparisons: a check of a mart counts as not evaluated from the build until then.
        schedules=[every(warehouse_build, "8-59/15 * * * *", "Brings the finance marts up to date.")],
        sensors=[known_sensor(warehouse)],
        executor=dg.in_process_executor,
        resources=resources,
    )


def _manifest(settings: Settings) -> Path:
    """Return dbt's manifest. If the project cannot be parsed, return the last manifest: only the models then fail."""
    try:
        return write_manifest(settings)
    except WarehouseError as error:
        last = manifest_file(settings)
        if not last.exists():
            raise
        logger.warning("The graph shows the warehouse as it was last read: %s", error)
        return last
