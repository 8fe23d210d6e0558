"""Repairs end to end on real servers: every store is damaged by hand, found, named, repaired and proven."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.damage_outcomes import unsettled
from bench.repairs import SEED, InProcess, chosen_rounds, run_round
from bench.world import trade
from contracts.settings import Settings
from repair.tools import Repairing
from stack.console import Progress
from stack.migrations import migrate_everything
from stack.repair import repairing_tools


@pytest.fixture
def tools(settings: Settings) -> Iterator[Repairing]:
    """Two pods with some trade, their copies up to date and kept so; what a repair needs."""
    migrate_everything(settings)
    trade(settings, orders=160, seed=SEED)
    with repairing_tools(settings, Progress(is_quiet=True)) as made:
        yield made


def test_every_damage_without_a_build(tools: Repairing) -> None:
    way = InProcess(tools)
    outcomes = []
    for one in chosen_rounds(None):
        for outcome in run_round(way, tools.settings, one):
            print(outcome, flush=True)
            outcomes.append(outcome)
    assert [outcome for outcome in outcomes if not outcome.is_expected] == []
    assert unsettled(tools.settings.control_dsn) == []
