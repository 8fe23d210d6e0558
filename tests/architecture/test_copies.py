"""A copy is one name: its declaration, its modules, and nothing else knows of it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from contracts.ownership import (
    ANSWER_CACHE,
    CART,
    COPIES,
    OWNER_FAMILIES,
    READ_MODELS,
    SEARCH,
    WEBHOOKS,
    Copy,
    copy_named,
    family_of,
)
from contracts.settings import MAY_BE_LEFT_OUT
from derived.read_models.known import roots_of
from derived.search.documents import ROOTS as SEARCH_ROOTS
from drills.copies import drilled
from drills.damages.place import Cell
from oltp.store.tables import metadata
from reconcile import copies
from reconcile.pairs import PAIRS
from tests.architecture.test_shape import PACKAGES, ROOT

DECLARATIONS = {"contracts/ownership.py", "contracts/facts.py"}
MAY_NAME_COPIES = {"docs", "examples"}
MEASURES = {Path("bench/visibility.py")}
"""How soon a customer sees an order is measured where customers look."""


def damages_of(copy: Copy) -> dict[str, tuple[Cell, ...]]:
    cells: dict[str, tuple[Cell, ...]] = import_module(f"drills.damages.{copy.name}").CELLS
    return cells


def names_of(copy: Copy) -> set[str]:
    """Return what only this read model is called; a table of OLTP may have the name of one of its tables."""
    owned = {table.name for table in metadata.sorted_tables}
    return {copy.name, copy.name.replace("_", "-"), copy.name.upper()} | (set(copy.tables) - owned)


@pytest.mark.parametrize("copy", READ_MODELS, ids=lambda copy: copy.name)
def test_no_module_but_its_own_names_a_read_model(copy: Copy) -> None:
    mentioned = re.compile("|".join(rf"\b{name}\b" for name in sorted(names_of(copy))))
    modules = [
        path.relative_to(ROOT)
        for package in PACKAGES
        if package not in MAY_NAME_COPIES
        for path in (ROOT / package).rglob("*.py")
        if path.stem != copy.name
    ]
    assert modules
    naming = {str(path) for path in modules if mentioned.search((ROOT / path).read_text(encoding="utf-8"))}
    assert naming - {str(path) for path in MEASURES} == DECLARATIONS


@pytest.mark.parametrize("copy", READ_MODELS, ids=lambda copy: copy.name)
def test_each_layer_has_a_module_named_after_the_read_model_and_they_agree(copy: Copy) -> None:
    assert Path(copy.built_by).stem == copy.name and (ROOT / copy.built_by).is_file()
    built = {table for root in roots_of(copy) for table in root.tables}
    (compared,) = [view for view in copies.VIEWS if view.name == copy.name]
    assert set(copy.tables) == built | set(copy.sums)
    assert {item.name for item in compared.sums} == set(copy.sums)
    # What a root holds as JSON is compared taken apart, under a name of its own.
    assert {table.name for table in compared.tables if table.query is None} == built
    assert {cell.store for cells in damages_of(copy).values() for cell in cells} == {copy.name}
    assert callable(drilled(copy).ask) and callable(drilled(copy).decide)
    assert copy.stale_decision.endswith(".")


def test_search_has_its_modules_in_every_layer_and_they_agree() -> None:
    assert (ROOT / SEARCH.built_by).is_file() and SEARCH.name == import_module(SEARCH.module).NAME
    (compared,) = [pair for pair in PAIRS if pair.copy == SEARCH.name]
    assert {shape.name for shape in compared.shapes} >= {root.table for root in SEARCH_ROOTS}
    assert {cell.store for cells in damages_of(SEARCH).values() for cell in cells} == {SEARCH.name}
    assert callable(drilled(SEARCH).ask) and callable(drilled(SEARCH).decide)
    assert (ROOT / "docs" / SEARCH.runbook).is_file() and SEARCH.stale_decision.endswith(".")


@pytest.mark.parametrize("copy", [ANSWER_CACHE, WEBHOOKS, CART], ids=lambda copy: copy.name)
def test_a_copy_that_is_not_rebuilt_has_its_modules_all_the_same(copy: Copy) -> None:
    assert (ROOT / copy.built_by).is_file() and (ROOT / "docs" / copy.runbook).is_file()
    assert {family_of(pair.name) for pair in PAIRS if pair.copy == copy.name} == set(copy.found_by)
    assert {cell.store for cells in damages_of(copy).values() for cell in cells} == {copy.name}
    drills = import_module(f"drills.copies.{copy.name}")
    assert all(callable(getattr(drills, name)) for name in ("replay", "read_stale", "lose_server"))
    assert callable(import_module(f"repair.copies.{copy.name}").decide)
    assert copy.setting in {"", *MAY_BE_LEFT_OUT} and copy.stale_decision.endswith(".")


def test_what_a_comparison_finds_belongs_to_the_copy_that_declares_it() -> None:
    for pair in PAIRS:
        family = pair.name.partition(".")[0]
        if pair.copy is None:
            assert family in OWNER_FAMILIES, pair.name
        else:
            assert family in copy_named(pair.copy).found_by, pair.name
    families = {pair.name.partition(".")[0] for pair in PAIRS}
    assert {family for copy in COPIES for family in copy.found_by} | set(OWNER_FAMILIES) == families
