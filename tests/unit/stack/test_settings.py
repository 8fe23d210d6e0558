"""Settings: the environment goes before the file, and what is missing is said in one sentence."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from contracts.errors import SettingsError
from contracts.object_store import ObjectStore
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
    "TIEOUT_S3_KEY_ID": "key",
    "TIEOUT_S3_SECRET": "a=secret",
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


def test_a_log_that_no_adapter_knows_is_said_before_anything_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TIEOUT_LOG_URL begins with kafka://; the log may be at redis://"):
        load_settings({**EXTERNAL, "TIEOUT_LOG_URL": "kafka://127.0.0.1:9092", "TIEOUT_VAR_DIR": str(tmp_path)})


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


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"TIEOUT_S3_KEY_ID": ""}, "TIEOUT_S3_KEY_ID is missing; s3://lake/ is on an object store"),
        ({"TIEOUT_S3_SECRET": ""}, "TIEOUT_S3_SECRET is missing"),
        ({"TIEOUT_S3_ENDPOINT": "store:9000"}, "TIEOUT_S3_ENDPOINT is no address"),
        ({"TIEOUT_S3_ENDPOINT": "https://key:a=secret@store"}, "TIEOUT_S3_ENDPOINT is no address"),
        ({"TIEOUT_LAKE_DATA_PATH": "gs://lake/"}, "TIEOUT_LAKE_DATA_PATH is 'gs://lake/'.*s3://bucket/prefix"),
        ({"TIEOUT_LAKE_BACKUP_PATH": "s3://Lake/x?y"}, "TIEOUT_LAKE_BACKUP_PATH is .*s3://bucket/prefix"),
    ],
)
def test_an_object_store_is_refused_in_a_sentence_without_its_secret(
    tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        load_settings({**EXTERNAL, "TIEOUT_VAR_DIR": str(tmp_path), **changed})
    assert "a=secret" not in str(refused.value)


def test_lake_and_backup_are_on_one_object_store_or_in_folders(tmp_path: Path) -> None:
    values = {**EXTERNAL, "TIEOUT_VAR_DIR": str(tmp_path), "TIEOUT_S3_ENDPOINT": "http://store:9000/"}
    both = load_settings({**values, "TIEOUT_LAKE_BACKUP_PATH": "s3://backup/lake/"})
    assert str(both.lake_backup_path / "index.json") == "s3://backup/lake/index.json"
    assert both.object_store is not None and (both.object_store.host, both.object_store.region) == (
        "store:9000",
        "us-east-1",
    )
    assert "a=secret" not in repr(both)
    assert load_settings(values).lake_backup_path == tmp_path / "backup" / "lake"
    neither = load_settings({**values, "TIEOUT_LAKE_DATA_PATH": str(tmp_path / "lake")})
    assert neither.object_store is None


def test_a_secret_is_used_below_its_prefixes_only() -> None:
    store = ObjectStore(endpoint="http://store:9000", key_id="k", secret="it's")
    first, second = store.secret_statements(["s3://lake/", "s3://backup/", "s3://lake/"])
    assert "secret 'it''s'" in first and "scope 's3://lake/'" in first and "use_ssl false" in first
    assert "endpoint 'store:9000', url_style 'path'" in second and "scope 's3://backup/'" in second
    (amazon,) = ObjectStore(key_id="k", secret="s", region="eu-central-1").secret_statements(["s3://lake/"])
    assert "endpoint" not in amazon and "region 'eu-central-1'" in amazon and "use_ssl true" in amazon


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
