"""A repair killed after every step in turn: the next one finishes, and nothing is applied twice wrongly."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from bench.damages import Place, lose_event, lose_row
from bench.repairs import SEED
from contracts.breaks import BreakState
from contracts.clock import utc_now
from contracts.settings import Settings
from contracts.verdicts import Verdict
from repair import audit, ledger
from repair.run import repair_breaks
from repair.tools import Repairing
from stack.console import Progress
from stack.migrations import migrate_everything
from stack.propagation import drain_everything
from stack.repair import repairing_tools
from tests.scenario.repair_process import repair_until, starter
from traffic.generator import place_orders

PAIRS = ("oltp_lake.order", "lake_account_view")
ACTIONS = ("restore_events", "rebuild_keys")
STEPS = (
    "claimed",
    "evidence",
    "planned",
    *(f"{when} {kind}" for kind in ACTIONS for when in ("begun", "applied", "done")),
    "rechecked",
    "recorded",
    "settled",
)


@pytest.fixture
def tools(settings: Settings) -> Iterator[Repairing]:
    migrate_everything(settings)
    place_orders(settings, orders=12, seed=SEED)
    drain_everything(settings)
    with repairing_tools(settings, Progress(is_quiet=True)) as made:
        yield made


def damage(place: Place, tools: Repairing) -> set[int]:
    """Lose an event of the lake and a row of a view; return the breaks that were found."""
    lose_event(place)
    lose_row(place)
    ledger.record(tools.settings.control_dsn, tools.recheck(PAIRS, ("pod1",)), run="after the damage")
    return {item.break_id for item in ledger.breaks(tools.settings.control_dsn, states=[BreakState.OPEN])}


def events_in_lake(place: Place) -> tuple[int, int]:
    with place.lake() as lake:
        rows = lake.execute("select count(*), count(distinct event_id) from lake.raw.events").fetchall()
    return rows[0][0], rows[0][1]


@pytest.mark.timeout(400)
def test_a_killed_repair_is_finished_by_the_next(tools: Repairing) -> None:
    dsn, place = tools.settings.control_dsn, Place(settings=tools.settings, pod="pod1")
    processes = starter()
    whole = events_in_lake(place)
    for step in STEPS:
        damaged = damage(place, tools)
        assert len(damaged) >= 2, step
        run = f"killed: {step}"
        killed = processes.Process(target=repair_until, args=(tools.settings, "pod1", step, run))
        killed.start()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL, step

        report = repair_breaks(tools, pods=("pod1",))

        assert report.left == 0 and not report.busy_pods, step
        states = {ledger.find_break(dsn, break_id).state for break_id in damaged}
        assert states == {BreakState.REPAIRED}, step
        assert events_in_lake(place) == whole, step
        found = audit.actions(dsn, now=utc_now(), run=run)
        _check_audit(step, [(action.kind, action.outcome) for action in reversed(found)])
        assert not audit.interrupted_runs(dsn, ["pod1"])
    results = tools.recheck(PAIRS, ("pod1",))
    assert {result.verdict for result in results} == {Verdict.CONSISTENT}
    # Nothing of the killed runs is left over, also when their leases are long over.
    later = replace(tools, clock=lambda: utc_now() + timedelta(hours=2))
    assert repair_breaks(later).breaks == ()


def _check_audit(step: str, found: list[tuple[str, str]]) -> None:
    """What was begun is in the audit, and what was not completed shows as interrupted."""
    begun = STEPS.index(step) - STEPS.index("begun restore_events")
    if begun < 0:
        assert found == [], step
        return
    kind = min(begun // 3, len(ACTIONS) - 1)
    is_over = step.startswith("done") or begun >= 3 * len(ACTIONS)
    expected = [(done, "done") for done in ACTIONS[:kind]] + [(ACTIONS[kind], "done" if is_over else "interrupted")]
    assert found == expected, step
