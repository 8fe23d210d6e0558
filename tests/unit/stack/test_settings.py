"""Settings: the environment goes before the file, and what is missing is said in one sentence."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from contracts.errors import SettingsError
from stack.settings import FILE_NAME, is_external, load_settings, read_settings_file, var_dir, write_settings_file

EXTERNAL = {
    "TIEOUT_PODS": "pod1",
    "TIEOUT_POD1_OWNER_DSN": "postgresql://o@db/x",
    "TIEOUT_POD1_APP_DSN": "postgresql://a@db/x",
    "TIEOUT_POD1_RELAY_DSN": "postgresql://r@db/x",
    "TIEOUT_POD1_READER_DSN": "postgresql://d@db/x",
    "TIEOUT_CONTROL_DSN": "postgresql://c@db/control",
    "TIEOUT_CATALOG_DSN": "postgresql://l@db/lake_catalog",
    "TIEOUT_READ_MODELS_DSN": "postgresql://m@db/read_models",
    "TIEOUT_DAGSTER_DSN": "postgresql://g@db/dagster",
    "TIEOUT_LOG_URL": "redis://log/0",
    "TIEOUT_LAKE_DATA_PATH": "s3://lake/",
}


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    settings = load_settings({**EXTERNAL, "TIEOUT_VAR_DIR": str(tmp_path)})
    assert is_external(EXTERNAL)
    assert settings.pod("pod1").relay_dsn == "postgresql://r@db/x"
    assert settings.var_dir == tmp_path


def test_a_missing_external_setting_is_named(tmp_path: Path) -> None:
    values = {**EXTERNAL, "TIEOUT_VAR_DIR": str(tmp_path)}
    del values["TIEOUT_POD1_RELAY_DSN"]
    with pytest.raises(SettingsError, match="TIEOUT_POD1_RELAY_DSN"):
        load_settings(values)


def test_external_servers_are_not_completed_from_the_file(tmp_path: Path) -> None:
    write_settings_file(tmp_path, EXTERNAL)
    with pytest.raises(SettingsError, match="TIEOUT_POD1_OWNER_DSN"):
        load_settings({"TIEOUT_PODS": "pod1", "TIEOUT_VAR_DIR": str(tmp_path)})


def test_the_file_is_used_and_the_environment_goes_before_it(tmp_path: Path) -> None:
    write_settings_file(tmp_path, {**EXTERNAL, "TIEOUT_CHUNK_ROWS": "500"})
    environment = {"TIEOUT_VAR_DIR": str(tmp_path)}
    assert load_settings(environment).chunk_rows == 500
    assert load_settings({**environment, "TIEOUT_CHUNK_ROWS": "7"}).chunk_rows == 7


@pytest.mark.parametrize("name", ["COMPARISON", "LAKE", "WAREHOUSE"])
def test_memory_is_a_setting_that_is_checked(tmp_path: Path, name: str) -> None:
    values = {**EXTERNAL, "TIEOUT_VAR_DIR": str(tmp_path)}
    setting = f"TIEOUT_{name}_MEMORY_MB"
    found = load_settings({**values, setting: "640", "TIEOUT_SCRATCH_DISK_MB": "7"})
    assert (getattr(found, f"{name.lower()}_memory_mb"), found.scratch_disk_mb) == (640, 7)
    for wrong in ("191", "0", "much", "-5", "640.5", "²"):
        with pytest.raises(SettingsError, match=rf"{setting} is .*at least 192"):
            load_settings({**values, setting: wrong})


def test_before_the_first_start_the_sentence_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="make run"):
        load_settings({"TIEOUT_VAR_DIR": str(tmp_path)})


def test_the_file_is_private_and_read_back_as_written(tmp_path: Path) -> None:
    write_settings_file(tmp_path, {"TIEOUT_LAKE_DATA_PATH": "/a path/with = and spaces/"})
    mode = (tmp_path / "settings.env").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert read_settings_file(tmp_path / FILE_NAME) == {"TIEOUT_LAKE_DATA_PATH": "/a path/with = and spaces/"}
    assert [path.name for path in tmp_path.iterdir()] == ["settings.env"]


def test_the_folder_is_absolute_and_in_the_checkout_by_default() -> None:
    assert var_dir({}).is_absolute()
    assert var_dir({}).name == "var"
    assert var_dir({"TIEOUT_VAR_DIR": "somewhere"}).is_absolute()
