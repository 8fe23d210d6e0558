"""The warehouse's files hold together with the contracts, without a database."""

from __future__ import annotations

import re
import types
import typing
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

import duckdb
import msgspec
import pytest
import yaml
from jinja2 import Environment

from contracts.currencies import WITHOUT_MINOR_UNIT
from contracts.events import STATE_TYPES
from contracts.money import CURRENCY_EXPONENTS, micro_per_minor
from contracts.object_store import ObjectStore
from derived.reports import MARTS, REPORTS
from derived.warehouse import PROJECT_DIR, dbt_environment
from tests.values import settings_of

MODELS = PROJECT_DIR / "models"


def structure(hint: object) -> object:
    """Return the DuckDB JSON structure of a type of the contracts."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return structure(next(part for part in typing.get_args(hint) if part is not types.NoneType))
    if origin is list:
        return [structure(typing.get_args(hint)[0])]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = typing.get_type_hints(hint)
        return {name: structure(hints[name]) for name in hint.__struct_fields__}
    names: dict[object, str] = {bool: "BOOLEAN", int: "BIGINT", datetime: "TIMESTAMPTZ"}
    return names.get(hint, "VARCHAR")


@pytest.mark.parametrize("aggregate_type", sorted(STATE_TYPES))
def test_staging_types_every_field_of_the_state(aggregate_type: str) -> None:
    text = (MODELS / "staging" / f"stg_oltp__{aggregate_type}s.sql").read_text()
    declared = re.search(r"set fields = (\{.*?\}) -%\}", text, re.DOTALL)
    assert declared is not None
    expected = structure(STATE_TYPES[aggregate_type])
    assert isinstance(expected, dict)
    # The macro adds what all states have.
    del expected["merchant_id"], expected["version"]
    required, added = without_defaults(STATE_TYPES[aggregate_type], expected)
    assert yaml.safe_load(declared.group(1)) == required
    call = re.search(rf"stage_events\('{aggregate_type}', fields(?:, (\{{.*\}}|added))?\)", text, re.DOTALL)
    assert call is not None
    given = call.group(1) or "{}"
    if given == "added":
        named = re.search(r"set added = (\{.*?\}) -%\}", text, re.DOTALL)
        assert named is not None
        given = named.group(1)
    assert yaml.safe_load(given) == added


def without_defaults(
    state: type[msgspec.Struct], types: dict[str, typing.Any]
) -> tuple[dict[str, typing.Any], dict[str, typing.Any]]:
    """Split the fields of a state (and of its lists' elements) into those all events have, and those added later."""
    required = dict(types)
    added: dict[str, typing.Any] = {}
    for field in msgspec.structs.fields(state):
        if field.name not in types:
            continue
        if typing.get_origin(field.type) is list and not field.required:
            added[field.name] = [required.pop(field.name), "[]"]
        elif typing.get_origin(field.type) is list:
            element = typing.get_args(field.type)[0]
            early, late = without_defaults(element, types[field.name][0])
            required[field.name] = [early]
            added.update({field.name: late} if late else {})
        elif not field.required:
            default = "null" if field.default is None else msgspec.json.encode(field.default).decode().replace('"', "'")
            added[field.name] = [required.pop(field.name), default]
    return required, added


def test_every_aggregate_has_a_history_and_every_history_its_test() -> None:
    described = {model["name"]: model for model in properties("intermediate")}
    for aggregate_type in STATE_TYPES:
        name = f"int_{aggregate_type}s_history"
        assert (MODELS / "intermediate" / f"{name}.sql").exists()
        assert [next(iter(test)) for test in described[name]["data_tests"]] == ["versions_are_contiguous"]


def test_the_marts_are_those_that_can_be_asked_and_all_are_described() -> None:
    assert sorted(path.stem for path in (MODELS / "marts").glob("*.sql")) == list(MARTS)
    described = {model["name"]: model for model in properties("marts")}
    assert sorted(described) == list(MARTS)
    for model in described.values():
        assert model["description"] and all(column["description"] for column in model["columns"])


def test_every_report_is_an_exposure() -> None:
    exposures = yaml.safe_load((MODELS / "marts" / "exposures.yml").read_text())["exposures"]
    read = {exposure["depends_on"][0] for exposure in exposures}
    assert read == {f"ref('{mart}')" for mart, _ in REPORTS.values()}


def test_no_money_is_a_float() -> None:
    for path in PROJECT_DIR.rglob("*.sql"):
        code = re.sub(r"--[^\n]*|\{#.*?#\}", "", path.read_text(), flags=re.DOTALL)
        assert not re.search(r"\b(float|double|real|decimal|numeric)\b", code.lower()), path
    types_found = {column["data_type"] for model in properties("marts") for column in model["columns"]}
    (nested,) = {name for name in types_found if name.startswith("STRUCT(")}
    types_found.remove(nested)
    assert not re.search("float|double|real|decimal|numeric", nested.lower())
    assert types_found == {"varchar", "bigint", "hugeint", "integer", "boolean", "date", "timestamp with time zone"}


def test_currencies_are_those_of_the_contracts() -> None:
    text = (PROJECT_DIR / "macros" / "currencies.sql").read_text()
    expression = Environment(autoescape=False).from_string(f"{text}{{{{ micro_per_minor('code') }}}}").render()
    others = [*WITHOUT_MINOR_UNIT, "ZZZ", "gbp", "", "AED AFN", " AED", "ED "]
    rows = duckdb.connect().execute(
        f"select code, {expression} from (select unnest($codes) as code)", {"codes": [*CURRENCY_EXPONENTS, *others]}
    )
    known = {currency: micro_per_minor(currency) for currency in CURRENCY_EXPONENTS}
    assert dict(rows.fetchall()) == {**known, **dict.fromkeys(others)}
    # DuckDB makes a join of a long list after `in`, at each place where the macro is used.
    assert not re.search(r"\bin \(", expression)


def test_dbt_writes_nothing_into_the_repository_and_hides_the_catalog(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, catalog_dsn="postgresql://u:secret@localhost/c", lake_data_path=f"{tmp_path}/lake")
    environment = dbt_environment(settings)
    for name in ("DBT_TARGET_PATH", "DBT_LOG_PATH", "TIEOUT_WAREHOUSE_TEMP_DIR"):
        assert environment[name].startswith(str(tmp_path))
    assert [name for name, value in environment.items() if "secret" in value] == ["DBT_ENV_SECRET_LAKE_CATALOG"]
    assert environment["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "false"

    store = ObjectStore(endpoint="http://store:9000", key_id="key", secret="hidden")
    on_store = dbt_environment(replace(settings, lake_data_path="s3://lake/", object_store=store))
    assert [name for name, value in on_store.items() if "hidden" in value] == ["DBT_ENV_SECRET_S3_SECRET"]
    assert (
        on_store["TIEOUT_WAREHOUSE_TARGET"]
        in yaml.safe_load((PROJECT_DIR / "profiles.yml").read_text())["tieout"]["outputs"]
    )
    assert "TIEOUT_WAREHOUSE_TARGET" not in environment


def test_dbt_finds_no_module_of_ours_to_execute() -> None:
    # dbt imports every importable top-level module whose name begins with dbt_.
    root = PROJECT_DIR.parent
    assert not list(PROJECT_DIR.rglob("*.py"))
    assert not list(root.glob("dbt_*.py"))


@cache
def properties(layer: str) -> list[dict[str, typing.Any]]:
    """Return the described models of a layer."""
    files = [yaml.load(path.read_text(), yaml.CSafeLoader) for path in (MODELS / layer).glob("*.yml")]
    return [model for file in files for model in file.get("models", [])]
