"""Progress off a terminal: plain lines, none where nobody watches; the answer's stream stays clean."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from cli import console
from cli.console import ConsoleProgress, print_json
from contracts.progress import SILENT


def test_an_ended_step_tells_what_came_of_it_and_not_where_it_was_last() -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(console=Console(file=stream, width=100))
    with progress.step("Placing orders") as placing:
        placing.say("pod2, 1,500 of 2,000")
        assert placing.line().startswith("Placing orders: pod2, 1,500 of 2,000 (")
        placing.conclude("2,000 orders")
    with progress.step("Comparing every store") as comparing:
        comparing.say("orders in pod2")
    shown = stream.getvalue()
    assert "✓ Placing orders: 2,000 orders (" in shown and "✓ Comparing every store (" in shown


def test_a_step_that_nobody_waits_for_any_longer_is_not_ticked_off() -> None:
    stream = io.StringIO()
    with ConsoleProgress(console=Console(file=stream, width=100)).step("Waiting for Dagster's pages") as step:
        step.give_up("code location warehouse is loading")
    assert stream.getvalue().startswith("… Waiting for Dagster's pages: code location warehouse is loading (")


def test_a_planned_step_says_which_it_is_and_what_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, said = io.StringIO(), threading.Event()
    plan = ["Migrating", "Placing orders", "Comparing every store"]
    progress = ConsoleProgress(console=Console(file=stream, width=200), plan=plan)
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.01)

    def heard(text: object) -> None:
        stream.write(f"{text}\n")
        said.set()

    monkeypatch.setattr(progress.console, "print", heard)
    with progress.step("Placing 500 orders"):
        assert said.wait(10)
    with progress.step("Something else"):
        pass
    shown = stream.getvalue()
    assert "  [2/3] Placing 500 orders (0.0 s) ...; then comparing every store" in shown
    assert "✓ [2/3] Placing 500 orders (" in shown and "✓ Something else (" in shown


def test_a_failed_step_is_not_ticked_off() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="no"), ConsoleProgress(console=Console(file=stream)).step("Placing orders"):
        raise ValueError("no")
    assert "✓" not in stream.getvalue()


def test_of_work_that_nobody_watches_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with SILENT.step("Placing orders") as step:
        step.say("halfway")
        step.conclude("500 orders")
        SILENT.note("hello")
    assert capsys.readouterr() == ("", "")


def test_json_goes_to_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"amount": "748957.020"})
    captured = capsys.readouterr()
    assert captured.out == '{\n  "amount": "748957.020"\n}\n'
    assert captured.err == ""
