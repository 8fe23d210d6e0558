"""The timetable without Dagster: what is due when, what was missed is done once, what runs is told by its exit code."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from contracts.settings import Settings
from stack.upkeep import routine, timetable
from stack.upkeep.timetable import REPAIR, ROUTINES, Timetable

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def table(folder: Path, ran: list[str]) -> Timetable:
    def run(name: str) -> int:
        ran.append(name)
        return 0

    settings = cast(Settings, SimpleNamespace(var_dir=folder, control_dsn=""))
    made = Timetable(settings=settings, stop=threading.Event(), clock=lambda: NOON, run=run)
    made.is_reconciling = lambda _: False
    made.loops()
    return made


def test_every_routine_of_the_timetable_can_be_run() -> None:
    assert {one.name for one in ROUTINES} | {REPAIR} == set(routine.ROUTINES)


def test_what_is_due_is_done_and_what_was_missed_is_done_once(tmp_path: Path) -> None:
    ran: list[str] = []
    made = table(tmp_path, ran)
    assert made.look() == []
    made.clock = lambda: NOON + timedelta(minutes=1)
    assert made.look() == ["expire_reservations"]
    made.clock = lambda: NOON + timedelta(minutes=10)
    assert made.look() == ["expire_reservations", "compare_changes"]
    # Down for two nights: everything is due once, and not twice.
    later = table(tmp_path, ran)
    later.clock = lambda: NOON + timedelta(days=2)
    assert later.look() == [one.name for one in ROUTINES]
    assert later.look() == []
    # Once a day at its time, whenever the last was.
    later.clock = lambda: NOON + timedelta(days=2, hours=13, minutes=46)
    later.look()
    later.clock = lambda: NOON + timedelta(days=2, hours=13, minutes=47)
    assert later.look() == ["expire_reservations", "compare_everything"]


def test_a_stopped_worker_begins_nothing(tmp_path: Path) -> None:
    ran: list[str] = []
    made = table(tmp_path, ran)
    made.look()
    made.clock = lambda: NOON + timedelta(days=1)
    made.stop.set()
    assert made.look() == [] and ran == []


def test_a_reconciler_that_compares_all_the_time_takes_the_place_of_the_routine(tmp_path: Path) -> None:
    ran: list[str] = []
    made = table(tmp_path, ran)
    made.look()
    made.is_reconciling = lambda _: True
    made.clock = lambda: NOON + timedelta(minutes=11)
    assert "compare_changes" not in made.look()
    made.is_reconciling = lambda _: False
    made.clock = lambda: NOON + timedelta(minutes=22)
    assert "compare_changes" in made.look()
    assert "compare_changes" in ran


def test_a_repair_runs_in_this_process_and_its_error_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = table(tmp_path, [])
    made.run = None
    monkeypatch.setattr("repair.holding.abandoned_runs", lambda _dsn: [])
    monkeypatch.setattr("repair.holding.runs_without_pods", lambda _dsn: [])
    monkeypatch.setattr("streams.clocks.database_clock", lambda _dsn: lambda: NOON)
    waiting = SimpleNamespace(pod="pod1", newest_break_id=7, attempt=1, is_claimed=False)
    monkeypatch.setattr("repair.ledger.incidents.waiting_for_repair", lambda *_: [waiting])
    seen: list[tuple[int, list[str]]] = []

    def repairs(_: Settings) -> None:
        seen.append((os.getpid(), list(made.running)))
        raise RuntimeError("the lake is away")

    monkeypatch.setitem(routine.ROUTINES, "repair", repairs)
    monkeypatch.setattr(timetable, "scrubber", lambda _: str)
    assert made.repair_if_needed() and seen == [(os.getpid(), ["repair"])]
    assert made.running == [] and "the lake is away" in caplog.text
    # The same breaks are not tried again at once; new ones are.
    assert not made.repair_if_needed()
    waiting.newest_break_id = 8
    assert made.repair_if_needed() and len(seen) == 2


def test_a_stopped_worker_waits_for_its_repair_but_not_for_ever(tmp_path: Path) -> None:
    made = table(tmp_path, [])
    made.wait_for_repair(60)
    made.running.append("repair")
    made.wait_for_repair(0.01)
    threading.Timer(0.05, made.running.clear).start()
    made.wait_for_repair(60)
    assert made.running == []
