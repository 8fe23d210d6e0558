"""The graph loads where nothing was started; what was started and is wrong is said all the same."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from contracts.errors import SettingsError, WarehouseError
from contracts.runs import LOCATION
from orchestration import warehouse
from orchestration.definitions import build_definitions, build_graph
from orchestration.unstarted import settings_for_drawing, settings_of_graph
from stack.settings import FILE_NAME, FILE_SETTING, ROOT


def test_where_nothing_was_started_the_graph_is_there_to_look_at(tmp_path: Path) -> None:
    settings = settings_of_graph({"TIEOUT_VAR_DIR": str(tmp_path)})
    assert settings.var_dir == tmp_path and "not_started" in settings.control_dsn
    graph = build_definitions(settings).resolve_asset_graph()
    assert graph.get_all_asset_keys()


def test_settings_that_are_wrong_or_missing_where_they_must_be_are_no_drawing(tmp_path: Path) -> None:
    folder = {"TIEOUT_VAR_DIR": str(tmp_path)}
    for wrong in ({"TIEOUT_PODS": "pod1"}, {FILE_SETTING: str(tmp_path / "gone.env")}):
        with pytest.raises(SettingsError):
            settings_of_graph({**folder, **wrong})
    (tmp_path / FILE_NAME).write_text("TIEOUT_PODS=pod1\n")
    with pytest.raises(SettingsError):
        settings_of_graph(folder)


def test_nothing_hides_a_code_location_from_dagsters_commands() -> None:
    # With a table of its own in pyproject.toml, `dagster dev` and `definitions validate` would read no workspace.yaml.
    assert "dagster" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    entries = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert [entry["python_module"]["location_name"] for entry in entries] == [LOCATION]


def test_no_two_nodes_of_the_graph_are_called_the_same_but_for_their_group(tmp_path: Path) -> None:
    graph = build_definitions(settings_for_drawing(tmp_path)).resolve_asset_graph()
    own = [key for key in graph.get_all_asset_keys() if graph.get(key).owners]
    # The graph shows the last part of a key; of the tables of OLTP that is the aggregate type.
    names = Counter(key.path[-1] for key in own)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_check_is_where_its_asset_is(tmp_path: Path) -> None:
    """The pages launch a check, or an asset with its checks, in the location of the asset: another one refuses it."""
    graph = build_graph(settings_for_drawing(tmp_path)).resolve_asset_graph()
    assert [key for key in graph.get_all_asset_keys() if not graph.get(key).owners] == [], "assets of another location"
    marts = {check.name for check in graph.asset_check_keys if check.asset_key.path == ["marts", "refunds"]}
    assert marts == {"refunds_tie_to_their_lines", "operational_finance__refunds", "expectations_refunds"}


def test_a_build_by_schedule_has_dbts_tests_and_no_other_checks(tmp_path: Path) -> None:
    graph = build_graph(settings_for_drawing(tmp_path))
    keys = graph.resolve_asset_graph()
    selections = {job.name: job.selection for job in cast("Any", graph.jobs) if hasattr(job, "selection")}
    build, comparing = selections["warehouse_build"], selections["reconciliation"]
    names = {key.name for key in build.resolve_checks(keys)}
    assert "refunds_tie_to_their_lines" in names and len(names) == 47
    assert not [
        name for name in names if name.startswith(("operational_finance", "expectations", "freshness", "oltp_"))
    ]
    assert {key.path[0] for key in build.resolve(keys)} == {"staging", "intermediate", "marts", "finance"}
    assert "operational_finance__refunds" in {key.name for key in comparing.resolve_checks(keys)}
    assert not comparing.resolve(keys), "a comparison materializes nothing"


def test_a_dbt_project_that_cannot_be_read_does_not_take_the_graph_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for_drawing(tmp_path)
    known = build_graph(settings).resolve_asset_graph().get_all_asset_keys()

    def broken(_: object) -> Path:
        raise WarehouseError("dbt could not read its project: a comma is missing")

    monkeypatch.setattr(warehouse, "write_manifest", broken)
    assert build_graph(settings).resolve_asset_graph().get_all_asset_keys() == known
    with pytest.raises(WarehouseError, match="a comma is missing"):
        build_graph(settings_for_drawing(tmp_path / "another"))
