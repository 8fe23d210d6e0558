"""Every column of the warehouse is described, with its type, its unit and when it is null."""

from __future__ import annotations

import types
import typing
from typing import ClassVar

import msgspec
import pytest
import yaml

from contracts.events import STATE_TYPES
from contracts.events.common import Value
from contracts.events.envelope import ENVELOPE_COLUMNS
from contracts.ownership import LAKE
from derived.builds import TABLES
from docs.columns import UNITS, column_type, field_documents, state_columns
from tests.unit.warehouse.test_dbt_project import MODELS, properties

MART_STATES = {
    "adjustments": ("adjustment", ""),
    "entitlements": ("customer_entitlement", ""),
    "fulfillments": ("fulfillment", "lines"),
    "gift_cards": ("gift_card", ""),
    "inventory_movements": ("stock_movement", ""),
    "merchants": ("merchant", ""),
    "order_lines": ("order", "lines"),
    "orders": ("order", ""),
    "payment_captures": ("payment", "captures"),
    "payments": ("payment", ""),
    "product_variants": ("product", "variants"),
    "refund_lines": ("refund", "lines"),
    "refunds": ("refund", ""),
    "reservations": ("reservation", "lines"),
}
"""Marts that show fields of a state, and of the elements of a list in it, under their names."""


def sources() -> dict[str, dict[str, typing.Any]]:
    read = yaml.safe_load((MODELS / "staging" / "sources.yml").read_text())["sources"]
    return {table["name"]: table for source in read for table in source["tables"]}


def nullable(struct: type[msgspec.Struct], part: str = "") -> set[str]:
    """Return the fields of a struct, and of the elements of that list of it, that may be None."""
    hints = typing.get_type_hints(struct)
    found = {name for name in struct.__struct_fields__ if types.NoneType in typing.get_args(hints[name])}
    return found | nullable(typing.get_args(hints[part])[0]) if part else found


@pytest.mark.parametrize("layer", ["staging", "intermediate", "marts"])
def test_every_column_has_a_type_and_a_description(layer: str) -> None:
    found = [(model["name"], column) for model in properties(layer) for column in model["columns"]]
    assert len(found) > 150
    assert [(name, column) for name, column in found if not column.get("description") or not column["data_type"]] == []


@pytest.mark.parametrize("aggregate_type", sorted(STATE_TYPES))
def test_staging_and_histories_describe_every_field_of_the_state(aggregate_type: str) -> None:
    models = {model["name"]: model for layer in ("staging", "intermediate") for model in properties(layer)}
    for name in (f"stg_oltp__{aggregate_type}s", f"int_{aggregate_type}s_history"):
        described = {column["name"]: column for column in models[name]["columns"]}
        assert len(described) == len(models[name]["columns"]), "each once"
        for field, data_type, text in state_columns(STATE_TYPES[aggregate_type]):
            assert (described[field]["data_type"], described[field]["description"].strip()) == (data_type, text)


def test_amounts_name_their_unit_and_what_may_be_null_says_when() -> None:
    words = {"_minor": "minor units", "_micro": "micro-units"}
    assert set(words) == set(UNITS)
    models = {model["name"]: model for model in properties("marts")}
    for model in models.values():
        for column in model["columns"]:
            unit = next((word for ending, word in words.items() if column["name"].endswith(ending)), "")
            assert unit in column["description"], (model["name"], column)
    for mart, (aggregate_type, part) in MART_STATES.items():
        may_be_null = nullable(STATE_TYPES[aggregate_type], part)
        silent = [column["name"] for column in models[mart]["columns"] if "null" not in column["description"]]
        assert not may_be_null & set(silent), mart


class Sample(Value, frozen=True, kw_only=True):
    """A struct of which not everything is said."""

    KNOWN: ClassVar[str] = "no field"
    said: int
    """Something; None never."""
    unsaid: str
    maybe: int | None
    """Something."""


def test_a_field_without_words_stops_the_generator() -> None:
    assert field_documents(Sample) == {"said": "Something; null never.", "maybe": "Something."}
    assert column_type(int | None) == "bigint"
    columns = state_columns(Sample)
    assert next(columns) == ("said", "bigint", "Something; null never.")
    with pytest.raises(ValueError, match=r"Sample\.unsaid has no description"):
        next(columns)

    class Described(Sample, frozen=True, kw_only=True):
        """The same, but for one field."""

        unsaid: str
        """Something else."""

    with pytest.raises(ValueError, match=r"maybe does not say when it is None"):
        list(state_columns(Described))


def test_sources_are_described_as_they_are() -> None:
    described = {name: [column["name"] for column in table["columns"]] for name, table in sources().items()}
    assert described["events"] == [*ENVELOPE_COLUMNS, "chunk"]
    created = {text.split(" (")[0].rpartition(".")[2]: text for text in TABLES if text.startswith("create table")}
    for name in ("cut_vectors", "completions", "left_out_events"):
        assert all(f"{column} " in created[name] for column in described[name])
    assert all(column["description"] for table in sources().values() for column in table["columns"])


def test_a_stale_lake_is_an_error_when_the_contract_says_so() -> None:
    config = sources()["events"]["config"]
    assert config["freshness"]["error_after"] == {"count": LAKE.late_seconds_max // 60, "period": "minute"}
    assert LAKE.freshness_seconds <= 60 * config["freshness"]["warn_after"]["count"]
    assert "TIEOUT_LAKE_COMPLETE_AT" in config["loaded_at_query"]


def test_every_test_says_what_it_demands() -> None:
    models = [model for layer in ("staging", "intermediate", "marts") for model in properties(layer)]
    tests = [test for model in models for test in model.get("data_tests", [])]
    assert len(tests) > 30
    assert [test for test in tests if not next(iter(test.values())).get("description")] == []
    singular = yaml.safe_load((MODELS.parent / "tests" / "singular.yml").read_text())["data_tests"]
    assert {one["name"] for one in singular} == {path.stem for path in (MODELS.parent / "tests").glob("*.sql")}
    assert all(one["description"] for one in singular)
