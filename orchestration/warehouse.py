"""The warehouse's part of the graph: dbt's models as assets, its tests as checks, and the finance reports on them.

Belongs here: these definitions. Does not belong here: comparisons and expectations of marts, which are checks like all
others (`definitions.py`).
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
        # dbt's own tests belong to a build; comparisons and expectations of the same marts have jobs of their own.
        selection=dg.AssetSelection.assets(warehouse, *finance_reports).without_checks()
        | dg.AssetSelection.checks(warehouse),
        description="Builds and tests every model at one vector of cuts, then the finance reports.",
    )
    return dg.Definitions(
        assets=[warehouse, *finance_reports],
        jobs=[warehouse_build],
        # Some minutes before the comparison of every tenth minute: until then the checks of marts are not evaluated.
        schedules=[every(warehouse_build, "8-59/15 * * * *", "Brings the finance marts up to date.")],
        sensors=[known_sensor(warehouse)],
        executor=dg.in_process_executor,
        resources=resources,
    )


def _manifest(settings: Settings) -> Path:
    """Return dbt's manifest; where the project cannot be read any more, the last one: only its models must not work."""
    try:
        return write_manifest(settings)
    except WarehouseError as error:
        last = manifest_file(settings)
        if not last.exists():
            raise
        logger.warning("The graph shows the warehouse as it was last read: %s", error)
        return last
