"""Repairs end to end on real servers: every store is damaged by hand, found, named, repaired and proven."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from bench.repair_ways import InProcess, run_round
from bench.started import SEED
from bench.world import trade
from contracts.progress import SILENT
from contracts.settings import Settings, as_values
from drills.damages.outcomes import unsettled
from drills.damages.place import Round
from drills.damages.rounds import MARTS, ROUNDS, WITHOUT_BUILDS
from repair.tools import Repairing
from stack.composition.migrations import migrate_everything
from stack.composition.repairing import repairing_tools
from stack.servers.valkey import EmbeddedValkey

WITH_BUILDS = tuple(one for one in ROUNDS if one not in WITHOUT_BUILDS)
# What nothing has read yet needs workers that can be stopped: tests/scenario/test_log_losses.py.
READ_BEFORE = tuple(one for one in WITHOUT_BUILDS if one.name not in ("log", "log emptied"))
SOME = tuple(one for one in READ_BEFORE if one.name != "carts and cache")


@pytest.fixture
def tools(settings: Settings, valkey_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repairing]:
    """Two pods with some trade, their copies up to date and kept so; what a repair needs."""
    settings = replace(settings, carts_url=valkey_server.url(1), cache_url=valkey_server.url(2))
    for name, value in as_values(settings).items():
        monkeypatch.setenv(name, value)  # the process that builds the warehouse has its settings from there
    migrate_everything(settings)
    trade(settings, orders=160, seed=SEED, processes=0)
    with repairing_tools(settings, SILENT) as made:
        yield made


def faults_of(tools: Repairing, rounds: Sequence[Round]) -> list[object]:
    """Return the damages that came to something else than they must, and what a round left; ends with the first."""
    way = InProcess(tools)
    for one in rounds:
        outcomes = run_round(way, tools.settings, one)
        faults = [*(one for one in outcomes if not one.is_expected), *unsettled(tools.settings.control_dsn)]
        if faults:
            return faults
    return []


@pytest.mark.timeout(600)
def test_some_damages(tools: Repairing, rng: random.Random) -> None:
    """Another round of them in every run; `make scenarios` has them all."""
    assert faults_of(tools, [rng.choice(SOME)]) == []


@pytest.mark.timeout(300)
def test_damages_of_carts_and_of_the_cache(tools: Repairing) -> None:
    assert faults_of(tools, [one for one in ROUNDS if one.name == "carts and cache"]) == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_damage_without_a_build(tools: Repairing) -> None:
    assert faults_of(tools, READ_BEFORE) == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_damage_to_the_warehouse(tools: Repairing) -> None:
    InProcess(tools).find(MARTS)  # the first build
    assert faults_of(tools, WITH_BUILDS) == []
