"""What cannot be taken back says first what it will do, and nobody's silence is a yes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.app import app
from cli.confirming import Intent, is_agreed
from contracts.errors import InputError, StackError


def commands_of(group: Any, names: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Yield every command by its names."""
    for name, command in getattr(group, "commands", {}).items():
        yield from commands_of(command, (*names, name)) if hasattr(command, "commands") else [[*names, name]]


IRREVERSIBLE = (
    ["close"],
    ["reset"],
    ["breaks", "accept"],
    ["imports", "give-up"],
    ["open-epoch"],
    ["restore-lake"],
    ["forget-projection"],
)
REPEATABLE = (["rebuild"], ["parked", "retry"], ["republish"], ["repair"])
"""These lose nothing; they say what they will do, and ask nobody."""
INTENT = Intent(what="A thing is done, for ever.", question="Do it?", details=["To [this]."], document={"what": "it"})


class Terminal(io.StringIO):
    """A terminal at which somebody types an answer."""

    def isatty(self) -> bool:
        return True


def test_every_command_that_asks_can_say_before_what_it_would_do() -> None:
    asking = [command for command in commands_of(get_command(app)) if "--yes" in options_of(command)]
    assert len(asking) > len(IRREVERSIBLE) / 2
    assert [command for command in asking if "--dry-run" not in options_of(command)] == []


@pytest.mark.parametrize("command", [*IRREVERSIBLE, *REPEATABLE], ids=" ".join)
def test_every_command_that_changes_much_can_say_before_what_it_will_do(command: list[str]) -> None:
    assert "--dry-run" in options_of(command)


@pytest.mark.parametrize("command", IRREVERSIBLE, ids=" ".join)
def test_what_cannot_be_taken_back_is_asked_or_said(command: list[str]) -> None:
    assert "--yes" in options_of(command)


def options_of(command: list[str]) -> set[str]:
    found = get_command(app)
    for name in command:
        found = found.commands[name]  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}


def test_a_dry_run_does_nothing_and_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_agreed(INTENT, is_yes=True, is_dry_run=True)
    assert not is_agreed(INTENT, is_yes=False, is_dry_run=True, as_json=True)
    shown, _, document = capsys.readouterr().out.partition("Nothing was done.")
    assert "A thing is done, for ever." in shown and "To [this]." in shown
    assert json.loads(document) == {"what": "it"}


def test_a_program_says_yes_and_is_shown_it_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert is_agreed(INTENT, is_yes=True, is_dry_run=False, as_json=True)
    out, err = capsys.readouterr()
    assert out == "" and "A thing is done, for ever." in err


def test_where_nobody_can_be_asked_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(InputError, match="--yes"):
        is_agreed(INTENT, is_yes=False, is_dry_run=False)


@pytest.mark.parametrize(("answer", "is_done"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_answers(monkeypatch: pytest.MonkeyPatch, answer: str, is_done: bool) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    if is_done:
        assert is_agreed(INTENT, is_yes=False, is_dry_run=False)
        return
    with pytest.raises(StackError, match="Nothing was done"):
        is_agreed(INTENT, is_yes=False, is_dry_run=False)


def test_reset_shows_what_it_deletes_before_it_does(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lake"  # type: ignore[operator]
    folder.mkdir()
    (folder / "events").write_bytes(b"x" * 2_000_000)
    monkeypatch.setenv("TIEOUT_VAR_DIR", str(tmp_path))
    outcome = CliRunner().invoke(app, ["reset", "--dry-run"])
    assert "lake 2.0 MB" in outcome.output and (folder / "events").exists()
    refused = CliRunner().invoke(app, ["reset"])
    assert isinstance(refused.exception, InputError) and (folder / "events").exists()
