"""A repair killed at every step of every kind of action: the next one goes on, and nothing is applied twice wrongly."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from bench.started import SEED
from bench.world import trade
from contracts.breaks import BreakState
from contracts.clock import utc_now
from contracts.ownership import WEBHOOKS
from contracts.progress import SILENT
from contracts.settings import Settings, as_values
from contracts.verdicts import Verdict
from drills.damages import account_view as views
from drills.damages import (
    answer_cache,
    cart,
    fulfillment_view,
    lake,
    log,
    oltp,
    read_models,
    warehouse,
    webhooks,
)
from drills.damages.place import Place
from drills.damages.rounds import BEFORE_BUILDS, MARTS, SERVED
from repair import audit, holding, ledger
from repair.repair_run import repair_breaks
from repair.tools import Repairing
from repair.values import ActionKind, Budget
from stack.composition.damaging import place_of
from stack.composition.migrations import migrate_everything
from stack.composition.repairing import repairing_tools
from stack.servers.valkey import EmbeddedValkey
from tests.scenario.repair_process import repair_until, starter

EVERYWHERE = (*BEFORE_BUILDS, *SERVED, *WEBHOOKS.found_by)
BEFORE, AFTER = ("claimed", "evidence", "planned"), ("rechecked", "recorded")


@pytest.fixture
def tools(settings: Settings, valkey_server: EmbeddedValkey) -> Iterator[Repairing]:
    settings = replace(settings, carts_url=valkey_server.url(1), cache_url=valkey_server.url(2))
    migrate_everything(settings)
    trade(settings, orders=40, seed=SEED, processes=0)
    with repairing_tools(settings, SILENT) as made:
        yield made


def damage_everything(tools: Repairing) -> None:
    """Do one damage for every kind of action but a build and the loading of cuts."""
    place, other = (place_of(tools.settings, pod.pod) for pod in tools.settings.pods)
    parked = read_models.park_events(views.NAME, "account_orders")(place)
    read_models.fix_view("account_orders")(place, parked)
    lake.lose_first_event(place)
    lake.change_amount(place)
    lake.double_event(place)
    lake.forge_event(place)
    oltp.change_customer(place)
    views.lose_row(place)
    read_models.position_beyond(fulfillment_view.NAME)(place)
    log.lose_entry(place)
    cart.of_cart(cart.set_valkey_back)(place)
    answer_cache.forge_answer(place)
    webhooks.of_note(webhooks.LOSE)(place)
    lake.lake_beyond(other)


def kill_at(step: str, tools: Repairing) -> None:
    """Let a repair be killed at a step."""
    process = starter().Process(target=repair_until, args=(tools.settings, step, _name(step)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, step


def audited(step: str, tools: Repairing) -> list[tuple[str, str]]:
    """Return what the audit has of the repair that was killed at a step, in order."""
    found = audit.actions(tools.settings.control_dsn, now=utc_now(), run=_name(step))
    return [(action.kind, action.outcome) for action in reversed(found)]


def _name(step: str) -> str:
    return f"killed: {step}"


def check_events(settings: Settings) -> None:
    """The lake has every event of every pod once, as it left the pod."""
    place = place_of(settings, settings.pods[0].pod)
    for pod in settings.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            sent = connection.execute("select event_id::text, payload::text from oltp.outbox").fetchall()
        with place.lake() as events:
            held = events.execute("select event_id, payload from lake.raw.events where pod = ?", [pod.pod]).fetchall()
        assert sorted(held) == sorted(sent)


def record(tools: Repairing, families: tuple[str, ...]) -> set[int]:
    dsn, pods = tools.settings.control_dsn, [pod.pod for pod in tools.settings.pods]
    ledger.record(dsn, tools.recheck(families, pods), run="after the damage")
    return {item.break_id for item in ledger.breaks(dsn, states=[BreakState.OPEN], limit=None)}


def test_a_repair_killed_at_any_step_is_finished_by_the_next(tools: Repairing, rng: random.Random) -> None:
    """Another step in every run; the tests below go through all of them."""
    step = rng.choice([*BEFORE, "begun rebuild_keys", "applied rebuild_keys", *AFTER])
    views.lose_row(place_of(tools.settings, tools.settings.pods[0].pod))
    damaged = record(tools, ("lake_account_view",))
    kill_at(step, tools)
    assert repair_breaks(tools).left == 0
    found = [ledger.find_break(tools.settings.control_dsn, break_id) for break_id in damaged]
    assert {item.state for item in found} == {BreakState.REPAIRED}
    assert not holding.interrupted_runs(tools.settings.control_dsn, ["pod1", "pod2"])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_repair_is_finished_by_the_next(tools: Repairing) -> None:
    dsn = tools.settings.control_dsn
    damage_everything(tools)
    damaged = record(tools, EVERYWHERE)

    # Cuts are loaded from the backup only where neither log nor outbox has them: the test after this one.
    planned = [kind for kind in ActionKind if kind not in (ActionKind.BUILD, ActionKind.LOAD_CUTS)]
    during = [f"{when} {kind}" for kind in planned for when in ("begun", "applied")]
    for step in (*BEFORE, *during, *AFTER):
        kill_at(step, tools)
    report = repair_breaks(tools, budget=Budget(actions_max=10_000))

    assert report.left == 0 and not report.busy_pods
    found = [ledger.find_break(dsn, break_id) for break_id in damaged]
    assert [
        (item, ledger.history(dsn, item.break_id)[-4:]) for item in found if item.state is not BreakState.REPAIRED
    ] == []
    # What is begun is in the audit before anything is touched; what was applied and not noted is seen.
    assert [audited(step, tools) for step in BEFORE] == [[], [], []]
    assert {step: audited(step, tools)[-1] for step in during} == {
        step: (step.split(" ")[1], "interrupted") for step in during
    }
    assert {outcome for step in AFTER for _, outcome in audited(step, tools)} <= {"done", "nothing_to_do"}
    results = tools.recheck(EVERYWHERE, [pod.pod for pod in tools.settings.pods])
    assert {result.verdict for result in results} == {Verdict.CONSISTENT}
    check_events(tools.settings)
    assert not holding.interrupted_runs(dsn, ["pod1", "pod2"])
    # Nothing of the killed runs is left over, also when their leases are long over.
    later = replace(tools, clock=lambda: utc_now() + timedelta(hours=2))
    assert repair_breaks(later).breaks == ()


def lake_events(place: Place) -> list[tuple[object, ...]]:
    """Return what the lake has of the place's pod."""
    query = "select event_id, cut, payload from lake.raw.events where pod = ? order by all"
    with place.lake() as events:
        return events.execute(query, [place.pod]).fetchall()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_loading_of_cuts_is_finished_by_the_next(tools: Repairing) -> None:
    dsn, place = tools.settings.control_dsn, place_of(tools.settings, tools.settings.pods[0].pod)
    place.place_orders()  # so that there are cuts after the first
    before = lake_events(place)
    lake.lake_behind_everything(place)
    assert len(lake_events(place)) < len(before)
    damaged = record(tools, BEFORE_BUILDS)
    assert damaged

    during = [f"{when} {ActionKind.LOAD_CUTS}" for when in ("begun", "applied")]
    for step in (*BEFORE, *during, *AFTER):
        kill_at(step, tools)
    report = repair_breaks(tools)

    assert report.left == 0 and not report.busy_pods
    found = [ledger.find_break(dsn, break_id) for break_id in damaged]
    assert {item.state for item in found} == {BreakState.REPAIRED}
    assert {step: audited(step, tools)[-1] for step in during} == {
        step: ("load_cuts", "interrupted") for step in during
    }
    assert lake_events(place) == before
    results = tools.recheck(BEFORE_BUILDS, [pod.pod for pod in tools.settings.pods])
    assert {result.verdict for result in results} == {Verdict.CONSISTENT}
    assert not holding.interrupted_runs(dsn, ["pod1", "pod2"])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_build_is_finished_by_the_next(tools: Repairing, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in as_values(tools.settings).items():
        monkeypatch.setenv(name, value)  # the builder's process has its settings from there
    place = place_of(tools.settings, tools.settings.pods[0].pod)
    record(tools, ("operational_finance.payments",))
    warehouse.change_row("payment", "captured_minor = captured_minor + 1")(place)
    warehouse.lose_entry(place)
    damaged = record(tools, MARTS)
    assert damaged

    for step in ("begun build_warehouse", "applied build_warehouse"):
        kill_at(step, tools)
    report = repair_breaks(tools)

    assert report.left == 0
    found = [ledger.find_break(tools.settings.control_dsn, break_id) for break_id in damaged]
    assert {item.state for item in found} == {BreakState.REPAIRED}
    assert audited("applied build_warehouse", tools) == [("build_warehouse", "interrupted")]
