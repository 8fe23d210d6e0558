"""The code location of the warehouse: dbt's models as assets, its tests as checks, and the finance reports on them."""

from __future__ import annotations

import dagster as dg

from assets.finance import finance_reports
from assets.warehouse import DBT, build_dbt_resource, warehouse_assets
from contracts.settings import Settings
from derived.warehouse import write_manifest
from orchestration.known import known_sensor
from orchestration.resources import build_resources
from orchestration.schedules import every
from orchestration.unstarted import settings_of_graph


def build_definitions(settings: Settings) -> dg.Definitions:
    """Return the warehouse's part of the graph; connects to nothing."""
    warehouse = warehouse_assets(write_manifest(settings))
    warehouse_build = dg.define_asset_job(
        name="warehouse_build",
        selection=dg.AssetSelection.assets(warehouse) | dg.AssetSelection.assets(*finance_reports),
        description="Builds and tests every model at one vector of cuts, then the finance reports.",
    )
    return dg.Definitions(
        assets=[warehouse, *finance_reports],
        jobs=[warehouse_build],
        # Some minutes before the comparison of every tenth minute: until then the checks of marts are not evaluated.
        schedules=[every(warehouse_build, "8-59/15 * * * *", "Brings the finance marts up to date.")],
        sensors=[known_sensor(warehouse)],
        executor=dg.in_process_executor,
        resources={**build_resources(settings), DBT: build_dbt_resource(settings)},
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Return the warehouse of this environment; where nothing was started yet, the one to look at."""
    return build_definitions(settings_of_graph())
