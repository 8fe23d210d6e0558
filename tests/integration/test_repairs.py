"""Repairs end to end on real servers: every store is damaged by hand, found, repaired and proven."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.damages import CELLS
from bench.repairs import SEED, run_cells
from contracts.settings import Settings
from repair.tools import Repairing
from stack.console import Progress
from stack.migrations import migrate_everything
from stack.propagation import drain_everything
from stack.repair import repairing_tools
from traffic.generator import place_orders


@pytest.fixture
def tools(settings: Settings) -> Iterator[Repairing]:
    """Two pods with some trade, their copies up to date and kept so; what a repair needs."""
    migrate_everything(settings)
    place_orders(settings, orders=40, seed=SEED)
    drain_everything(settings)
    with repairing_tools(settings, Progress(is_quiet=True)) as made:
        yield made


def test_every_damage_without_a_build(tools: Repairing) -> None:
    cells = [cell for cell in CELLS if not cell.needs_build]
    outcomes = []
    for outcome in run_cells(tools, "pod1", cells):
        print(outcome, flush=True)
        outcomes.append(outcome)
    assert [outcome for outcome in outcomes if not outcome.is_expected] == []
