"""Drills end to end, on one system: they hold, and when they are sabotaged they fail. `make drill` runs all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from contracts.drills import Promise, drills_named
from drills.cells import read_stale_view
from drills.observing import Observation, Outcome
from drills.running import run_drill
from drills.scene import Scene
from drills.trading import Trader
from stack.processes import tracking
from stack.servers.embedded import embedded_servers
from stack.settings import PREFIX
from stack.upkeep.drill_system import OwnSystem, own_system

pytestmark = pytest.mark.timeout(900)

(LAG,) = drills_named("account_view", "lag")
(STALE_READ,) = drills_named("fulfillment_view", "stale_read")
(OUTAGE,) = drills_named("account_view", "source_outage")


@pytest.fixture(scope="module")
def folder(session_folder: Path) -> Iterator[Path]:
    """The var folder of the drilled system; nothing of it is left afterwards."""
    made = session_folder / "drilled"
    yield made
    assert not made.exists()
    assert tracking.marked(made) == []
    assert embedded_servers(made).running() == []


@pytest.fixture(scope="module")
def system(folder: Path) -> Iterator[OwnSystem]:
    """A system under load that drills may break."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        patch.setenv("TIEOUT_VAR_DIR", str(folder))
        with own_system([LAG], orders_per_second=2.0) as running:
            yield running


@pytest.fixture(scope="module")
def trader(system: OwnSystem) -> Iterator[Trader]:
    with Trader(settings=system.settings) as opened:
        yield opened


@pytest.fixture
def workers(system: OwnSystem) -> Iterator[tuple[str, ...]]:
    """The names of all workers; what a drill leaves dead is started again afterwards."""
    yield tuple(sorted(system.worker_states()))
    system.mend()


def failed(outcome: Outcome) -> set[Promise]:
    """Return the promises that did not hold."""
    return {seen.promise for seen in outcome.observations if not seen.is_ok} | set(outcome.unobserved)


@pytest.mark.in_turn("system", seconds=57)
def test_a_copy_outlives_the_loss_of_its_source(system: OwnSystem, trader: Trader, workers: tuple[str, ...]) -> None:
    outcome = run_drill(system, OUTAGE, trader, workers)
    assert outcome.problems == ()
    assert {seen.promise for seen in outcome.observations} == set(OUTAGE.promises)
    text = json.dumps(outcome.as_json())
    assert "postgresql://" not in text and "redis://" not in text


@pytest.mark.long
def test_stale_reads_do_no_harm_and_a_copy_that_is_wrong_afterwards_fails(
    system: OwnSystem, trader: Trader, workers: tuple[str, ...]
) -> None:
    before: list[Observation] = []

    def lose_a_row(scene: Scene) -> None:
        read_stale_view(scene)
        before.extend(scene.notes.observations)
        sale = scene.trader.sales[0]
        with psycopg.connect(system.settings.read_models_dsn) as connection:
            for table in ("fulfillment_lines", "fulfillment_orders"):
                statement = f"delete from read_models.{table} where order_id = %s"
                connection.execute(statement.encode(), [sale.order.order_id])
        scene.compare_equal()
        scene.count_sales()

    outcome = run_drill(system, STALE_READ, trader, workers, play=lose_a_row)
    assert all(seen.is_ok for seen in before)
    assert {seen.promise for seen in before} == set(STALE_READ.promises)
    assert not outcome.has_held
    assert failed(outcome) == {Promise.EQUAL_AGAIN, Promise.NOTHING_LOST_OR_DOUBLE}
    rebuilt = system.run(["rebuild", "fulfillment_view", "--json"])
    assert rebuilt.exit_code == 0, rebuilt.complaint


@pytest.mark.in_turn("system", seconds=29)
def test_a_drill_fails_when_the_copy_does_not_come_back(
    system: OwnSystem, trader: Trader, workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = replace(STALE_READ, copy=replace(STALE_READ.copy, late_seconds_max=1))
    monkeypatch.setattr(Scene, "start_copy", lambda scene: None)
    outcome = run_drill(system, impatient, trader, workers)
    assert (outcome.has_held, outcome.failure) == (False, "")
    # It was looked at and found wanting: what a drill never came to has failed as well.
    assert Promise.CATCHES_UP in {seen.promise for seen in outcome.observations if not seen.is_ok}
    # Its own log may be empty; that it was stopped, and how, says the supervisor's.
    assert "stopped: fulfillment-view-pod1" in outcome.log_tails["supervisord"]


@pytest.mark.in_turn("system", seconds=60)
def test_a_drill_that_cannot_go_on_has_failed(system: OwnSystem, trader: Trader, workers: tuple[str, ...]) -> None:
    def give_up(scene: Scene) -> None:
        raise RuntimeError(f"no way to {scene.system.settings.read_models_dsn}")

    outcome = run_drill(system, LAG, trader, workers, play=give_up)
    assert not outcome.has_held and outcome.failure.startswith("It could not be finished: RuntimeError: no way to")
    assert system.settings.read_models_dsn not in outcome.failure
    assert set(outcome.unobserved) == set(LAG.promises) - {Promise.WAS_HEALTHY}
