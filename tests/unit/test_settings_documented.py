"""Every setting that is a whole number: documented with its default, given on unchanged, refused below its bound."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import SettingsError
from contracts.settings import LEAST, NUMBERS, Settings, as_values, parse_settings

ROOT = Path(__file__).resolve().parents[2]

REQUIRED = {
    "TIEOUT_VAR_DIR": "/nowhere",
    "TIEOUT_PODS": "pod1",
    "TIEOUT_CONTROL_DSN": "postgresql://a",
    "TIEOUT_CATALOG_DSN": "postgresql://b",
    "TIEOUT_READ_MODELS_DSN": "postgresql://c",
    "TIEOUT_DAGSTER_DSN": "postgresql://d",
    "TIEOUT_LOG_URL": "redis://e",
    "TIEOUT_LAKE_DATA_PATH": "/nowhere/lake",
    **{f"TIEOUT_POD1_{role}_DSN": "postgresql://f" for role in ("OWNER", "APP", "RELAY", "READER")},
}


def test_the_how_to_names_every_number_with_its_default() -> None:
    text = (ROOT / "docs" / "how-to" / "own-servers.md").read_text(encoding="utf-8")
    told = {
        name.lower(): int(in_table or in_text)
        for name, in_table, in_text in re.findall(r"`TIEOUT_([A-Z_]+)` (?:\| (\d+) \||\((\d+)\))", text)
    }
    assert told == NUMBERS


def test_what_is_not_set_is_the_default_of_the_value() -> None:
    settings = parse_settings(REQUIRED)
    assert {name: getattr(settings, name) for name in NUMBERS} == NUMBERS
    assert len(NUMBERS) == sum(one.type == "int" for one in fields(Settings))


def test_every_number_reaches_a_child_process() -> None:
    others: dict[str, Any] = {name: default + 1_000 for name, default in NUMBERS.items()}
    settings = replace(parse_settings(REQUIRED), **others)
    assert parse_settings(as_values(settings)) == settings


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_below_its_bound_is_refused_by_its_name(name: str) -> None:
    least = LEAST.get(name, 1)
    setting = f"TIEOUT_{name.upper()}"
    assert getattr(parse_settings({**REQUIRED, setting: str(least)}), name) == least
    for wrong in (str(least - 1), "-1", "1.5", "many"):
        with pytest.raises(SettingsError, match=f"Setting {setting} is '{wrong}'; .* at least {least}"):
            parse_settings({**REQUIRED, setting: wrong})
