"""The graph loads where nothing was started; what was started and is wrong is said all the same."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from contracts.errors import SettingsError
from orchestration.definitions import build_definitions
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
    assert [entry["python_module"]["location_name"] for entry in entries] == ["tieout", "warehouse"]


def test_no_two_nodes_of_the_graph_are_called_the_same_but_for_their_group(tmp_path: Path) -> None:
    graph = build_definitions(settings_for_drawing(tmp_path)).resolve_asset_graph()
    own = [key for key in graph.get_all_asset_keys() if graph.get(key).owners]
    # The graph shows the last part of a key; of the tables of OLTP that is the aggregate type.
    names = Counter(key.path[-1] for key in own)
    assert [name for name, count in names.items() if count > 1] == []
