"""What `tieout --help` and `--version` say, and that the product asks for nothing that only its makers need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.groups import HEADINGS
from docs.licences import licences

ROOT = Path(__file__).resolve().parents[3]
MAKERS = {"pytest", "mypy", "sqlfluff", "ruff", "hypothesis", "import-linter", "pytest-xdist"}


def test_help_lists_every_command_once_under_who_uses_it() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    assert re.findall(r"─ ([A-Z][^─]+?) ─", listed) == ["Options", *HEADINGS]
    named = re.findall(r"^│ ([a-z][a-z-]*) ", listed, re.MULTILINE)
    assert named == [name for names in HEADINGS.values() for name in names]
    assert {heading.partition(":")[0] for heading in HEADINGS} == {
        "On call",
        "Finance",
        "Data engineers",
        "Storefronts and admins",
    }


def test_the_version_is_that_of_the_project() -> None:
    done = CliRunner().invoke(app, ["--version"])
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (done.exit_code, done.output.split(",")[0]) == (0, f"tieout {version}")


def test_the_product_does_not_ask_for_the_tools_of_its_makers() -> None:
    asked = {name: who for name, _, _, who in licences()}
    assert {asked[name] for name in MAKERS} == {"makers"}
    assert {asked["dagster"], asked["duckdb"], asked["msgspec"]} == {"product"}
    assert [name for name, _, licence, _ in licences() if licence == "not stated"] == []


@pytest.mark.parametrize("file", ["requirements.in", "requirements-dev.in"])
def test_every_direct_dependency_stands_under_a_line_that_says_what_it_is_for(file: str) -> None:
    lines = (ROOT / file).read_text().splitlines()
    alone = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if line and not line.startswith("#") and not before
    ]
    assert alone == []
