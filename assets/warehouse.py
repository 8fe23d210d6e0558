"""The warehouse: every dbt model as an asset, every dbt test as a check, built at one vector of cuts.

Belongs here: models and tests as Dagster sees them. Does not belong here: the models (dbt_project/), cuts and locks of
builds (`derived/builds.py`).
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import AssetExecutionContext
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation, DbtCliResource, dbt_assets

from assets import dbt_process
from assets.graph import FINANCE_OWNERS, LAKE_EVENTS, OWNERS, contract_metadata
from assets.model_metadata import described
from assets.platform import PLATFORM, platform_of
from contracts.ownership import WAREHOUSE
from contracts.settings import Settings
from derived.builds import Connection, building
from derived.defective import in_words
from derived.failed_tests import failing_keys, with_keys
from derived.warehouse import PROJECT_DIR, dbt_environment

DBT = "dbt"
TESTS_NAMED_MAX = 5


class WarehouseTranslator(DagsterDbtTranslator):
    """Names assets by folder and model (``marts/orders``), and sets their owners."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return a key of two parts; the source `events` is the lake's own node in the graph."""
        if dbt_resource_props["resource_type"] == "source":
            return LAKE_EVENTS if dbt_resource_props["name"] == "events" else _key("lake", dbt_resource_props)
        return _key(dbt_resource_props["fqn"][1], dbt_resource_props)

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Return the model's folder."""
        return str(dbt_resource_props["fqn"][1])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """Return finance for marts and the platform's engineers for all others."""
        return FINANCE_OWNERS if self.get_group_name(dbt_resource_props) == "marts" else OWNERS

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        """Return the spec; a mart's has the contract's terms. Freshness policies are on gauges (`assets/gauges.py`)."""
        spec: dg.AssetSpec = super().get_asset_spec(manifest, unique_id, project)
        if spec.key.path[0] != "marts":
            return spec
        return spec.merge_attributes(metadata=contract_metadata(WAREHOUSE.name))

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        """Return the spec with the description that the dbt test declares."""
        spec: dg.AssetCheckSpec | None = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        description = " ".join(manifest["nodes"][unique_id]["description"].split())
        return None if spec is None else spec._replace(description=description)


def _key(folder: str, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
    return dg.AssetKey([folder, dbt_resource_props["name"]])


def failed_tests(connection: Connection, invocation: DbtCliInvocation) -> list[str]:
    """Return the names of the first tests that failed, each with the keys of the first rows that failed it."""
    try:
        results = invocation.get_artifact("run_results.json")["results"]
    except FileNotFoundError:
        # dbt ended before it ran a node; dbt's own error says why.
        return []
    failed = [result for result in results if result["status"] == "fail"]
    return [
        with_keys(result["unique_id"].split(".")[2], failing_keys(connection, result.get("compiled_code")))
        for result in failed[:TESTS_NAMED_MAX]
    ]


def build_dbt_resource(settings: Settings) -> DbtCliResource:
    """Return dbt for these settings; its secrets come from the environment of the run that uses it."""
    return DbtCliResource(
        project_dir=str(PROJECT_DIR),
        profiles_dir=str(PROJECT_DIR),
        dbt_executable=str(dbt_process.executable(settings.var_dir / "dbt" / "bin")),
        target_path=Path(dbt_environment(settings)["DBT_TARGET_PATH"]),
    )


def warehouse_assets(manifest: Path) -> dg.AssetsDefinition:
    """Return the assets of every model in a parsed project."""

    @dbt_assets(
        manifest=manifest,
        name="warehouse",
        dagster_dbt_translator=WarehouseTranslator(),
        required_resource_keys={PLATFORM, DBT},
    )
    def warehouse(context: AssetExecutionContext) -> Iterator[Any]:
        settings = platform_of(context).settings
        os.environ.update({**dbt_environment(settings), dbt_process.PARENT: str(os.getpid())})
        with building(settings) as build:
            invocation = context.resources.dbt.cli(
                ["build", "--exclude-resource-type", "unit_test", *(["--full-refresh"] if build.is_outgrown else [])],
                context=context,
                raise_on_error=False,
            )
            yield from described(invocation.stream(), build, invocation.manifest, invocation.target_path)
            # Reports may only read a build of all models and tests without a fault.
            build.is_complete = invocation.is_successful() and not context.is_subset
            if build.left_out:
                context.log.warning(in_words([one.sentence for one in build.left_out]))
            for sentence in build.warnings:
                context.log.warning(sentence)
            failed = [] if invocation.is_successful() else failed_tests(build.connection, invocation)
        if invocation.get_error() is not None:
            raise dg.Failure(
                f"The build {build.build_id} at {build.cuts} did not succeed: "
                f"{'; '.join([*failed, str(invocation.get_error())])}"
            )

    return warehouse
