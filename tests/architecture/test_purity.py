"""What a package promises of itself: the contracts and the rules of the business do no I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.test_shape import ROOT

ALLOWED = {
    "contracts/arrow.py",
    "contracts/memory.py",
    "contracts/valkey.py",
    "contracts/events/schema_files.py",
    "contracts/events/upcasting.py",
}
"""Named in the docstring of `contracts`."""
# urllib.parse takes texts apart and asks nobody.
DOES_IO = {
    "os",
    "socket",
    "subprocess",
    "http",
    "psycopg",
    "duckdb",
    "redis",
    "adbc_driver_postgresql",
    "psutil",
}
CALLS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "connect", "getenv", "environ"}
PURE = sorted(
    path.relative_to(ROOT) for package in ("contracts", "oltp/domain") for path in (ROOT / package).rglob("*.py")
)


def io_of(source: str) -> set[str]:
    """Return what of a module's imports and calls does I/O; imports for types alone do none."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & DOES_IO
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} & DOES_IO
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found |= {name} & CALLS
    return found


@pytest.mark.parametrize("module", PURE, ids=str)
def test_a_module_that_promises_no_io_does_none(module: Path) -> None:
    found = io_of((ROOT / module).read_text(encoding="utf-8"))
    assert bool(found) == (str(module) in ALLOWED), found


def test_io_would_be_seen() -> None:
    assert io_of("import os") == {"os"}
    assert io_of("from psycopg.rows import dict_row") == {"psycopg"}
    assert io_of("from pathlib import Path\nPath('x').read_text()") == {"read_text"}
    assert io_of("if TYPE_CHECKING:\n    import duckdb") == set()
