"""The shape that STYLE asks for: short modules and functions, a scope at the top of each module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "api",
    "assets",
    "bench",
    "checks",
    "cli",
    "contracts",
    "derived",
    "docs",
    "drills",
    "examples",
    "finance",
    "oltp",
    "orchestration",
    "reconcile",
    "repair",
    "stack",
    "streams",
    "traffic",
    "witness",
)
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50


def _modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in _modules()}


def test_every_module_says_what_belongs_in_it(trees: dict[Path, ast.Module]) -> None:
    assert [str(path) for path, tree in trees.items() if not ast.get_docstring(tree)] == []


def test_modules_are_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in _modules()}
    assert {name: count for name, count in lines.items() if count > MODULE_LINES_MAX} == {}


def test_functions_are_short(trees: dict[Path, ast.Module]) -> None:
    # A migration is history: as long as its statements are.
    long = {
        f"{path}:{function.name}": function.end_lineno - function.lineno + 1
        for path, tree in trees.items()
        if "migrations" not in path.parts
        for function in _functions(tree)
        if function.end_lineno is not None and function.end_lineno - function.lineno >= FUNCTION_LINES_MAX
    }
    assert long == {}


def test_nothing_is_left_to_be_done(trees: dict[Path, ast.Module]) -> None:
    marks = ("TODO", "FIXME", "NotImplementedError", "XXX")
    found = [f"{path}: {mark}" for path in trees for mark in marks if mark in (ROOT / path).read_text(encoding="utf-8")]
    assert found == []


def test_money_is_never_a_float(trees: dict[Path, ast.Module]) -> None:
    found = [
        f"{path}:{node.lineno} {node.target.id}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id.endswith(("_minor", "_micro"))
        and "float" in ast.unparse(node.annotation)
    ]
    assert found == []


def test_every_package_is_named_in_the_project_file() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {".".join(path.parent.relative_to(ROOT).parts) for path in _modules()}
    assert present <= listed


def test_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    outcome = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout


def test_whoever_publishes_a_pod_asks_its_copies_first(trees: dict[Path, ast.Module]) -> None:
    """Without them an empty log hides that the database was set back."""
    names = {"build_relay", "drain_pod", "republish_now"}
    silent = [
        f"{path}:{node.lineno}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
        if "cut_sources" not in {keyword.arg for keyword in node.keywords}
    ]
    assert silent == []


COUNTED = re.compile(r" (?:[a-z]+ )?(?!is\b|was\b|has\b|does\b|this\b|as\b|less\b|its\b|lies\b|minus\b)[a-z]{2,}s\b")

NEVER_ONE = {"contracts/limits.py", "oltp/commands/register_merchant.py", "oltp/outbox.py", "stack/looking/verdict.py"}
"""What these say is beyond a limit above 1."""


def _is_a_count(value: ast.FormattedValue) -> bool:
    """Return whether a part of a text is plainly a number that may be 1; a constant of ours is not."""
    expression = ast.unparse(value.value)
    shown = ast.unparse(value.format_spec) if value.format_spec is not None else ""
    is_constant = re.fullmatch(r"[\w.]*\b[A-Z_]+(?:\.\w+)?(?: [/*]+ [\d_* ]+)?", expression) is not None
    return not is_constant and (shown in ("f','", "f'd'") or expression.startswith(("len(", "sum(")))


def test_numbers_before_nouns_are_counted(trees: dict[Path, ast.Module]) -> None:
    """`1 payments` is said by none: `contracts.text.counted` knows one from several."""
    found = [
        f"{path}:{part.lineno} {ast.unparse(part.value)}{word.value!s}"
        for path, tree in trees.items()
        if path.parts[0] not in ("bench", "docs") and str(path) not in NEVER_ONE
        for text in ast.walk(tree)
        if isinstance(text, ast.JoinedStr)
        for part, word in pairwise(text.values)
        if isinstance(part, ast.FormattedValue) and isinstance(word, ast.Constant)
        if _is_a_count(part) and COUNTED.match(str(word.value))
    ]
    assert found == []
