"""What somebody else wrote is shown, and not obeyed: by tables, sentences, errors and JSON alike."""

from __future__ import annotations

import io
import json
import sys
from datetime import date

import pytest
from rich.text import Text

from cli.app import main
from cli.commands.stores import check_keys
from cli.console import VisibleConsole, print_json, print_text, table
from cli.conventions import FAILED, WRONG_INPUT
from contracts.errors import InputError
from contracts.ids import parts_of_key
from contracts.text import visible, visible_lines
from finance.periods import parse_period
from stack.composition import session
from stack.settings import ROOT

HOSTILE = "a\x1b[31mb\u202ec\x9b2Jd\re\u200bf\ud800"
SHOWN = r"a\x1b[31mb\u202ec\x9b2Jd\re\u200bf\ud800"


def test_every_character_that_is_not_plainly_seen_is_escaped() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("one\ntwo\t") == r"one\ntwo\t"
    assert visible_lines("one\ntwo\t\x1b") == "one\ntwo\t\\x1b"
    assert visible("Ärger über 日本 שלום 😀") == "Ärger über 日本 שלום 😀"


def test_no_console_obeys_what_is_stored() -> None:
    for is_terminal in (False, True):
        stream = io.StringIO()
        console = VisibleConsole(file=stream, force_terminal=is_terminal, width=300, highlight=False, color_system=None)
        console.print(f"Order {HOSTILE}.", markup=False)
        console.print(Text(HOSTILE))
        console.print(table("Orders", ("Order", "Merchant"), [(HOSTILE.replace("[", "("), "two\nlines")]))
        written = stream.getvalue()
        assert not {character for character in written if ord(character) in (0x1B, 0x202E, 0x9B, 0x200B, 0xD)}
        assert r"a\x1b" in written and r"\u202e" in written and r"two\nlines" in written


def test_json_for_programs_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"id": HOSTILE, "name": "日本\nline"})
    written = capsys.readouterr().out
    assert json.loads(written) == {"id": HOSTILE, "name": "日本\nline"}
    assert written.replace("\n", "").isprintable() and "日本" in written


def test_a_file_keeps_its_bytes_and_a_terminal_does_not_obey_them() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        print_text("a\x1b\n", stream)
    assert (file.getvalue(), terminal.getvalue()) == ("a\x1b\n", "a\\x1b\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rebuild", "account_view", "--key", "no slashes"], "merchant/type/id"),
        (["rebuild", "account_view", "--key", "acme/shoe/1"], "no known type"),
        (["parked", "retry", "lake", "--key", "a\x1b"], r"a\\x1b"),
        (["explain", "\udcff"], "U+DCFF"),
        (["report", "--period", "10000-01"], "10000-01"),
        (["report", "weekly"], "There is no report 'weekly'"),
        (["report", "--as-of", "9999-12-31"], "lies in the future"),
        (["report", "--as-of", "pod1=x"], "'pod1=x' is no cut"),
        (["report", "--as-of", "2011-01-31", "--cut", "pod1=1"], "not both"),
        (["sql", "select 1", "--cut", "17"], "'17' is no cut"),
        (["close", "December"], "December"),
        (["periods", "2011-13"], "2011-13"),
        (["verify", "README.md"], "cannot be verified"),
        (["import", "nothing.csv"], "does not exist"),
        (["import", "docs"], "is a directory"),
        (["import", "--format", "orders", "--mapping", "nothing.toml", "README.md"], "nothing.toml cannot be read"),
        (["reconcile", "--pair", "nothing"], "There is no pair 'nothing'"),
        (["repair", "--pair", "nothing"], "There is no pair 'nothing'"),
        (["drill", "nothing"], "nothing"),
    ],
)
def test_the_command_line_answers_in_one_sentence(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def started(_: object) -> None:
        pytest.fail("servers were started for an input that cannot be meant")

    monkeypatch.setattr(session, "open_session", started)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["tieout", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said and said.isprintable()
    assert ended.value.code in (WRONG_INPUT, FAILED)


def test_keys_are_told_apart() -> None:
    assert parts_of_key("acme/order/a/b") == ("acme", "order", "a/b")
    check_keys(["acme/order/1"])
    for wrong in ("", "a", "a/b", "//", "a/b/"):
        with pytest.raises(InputError, match="merchant/type/id"):
            parts_of_key(wrong)


def test_the_last_month_there_is_has_an_end() -> None:
    last = parse_period("9999-12")
    assert last.last_day == date.max and last.ends_at.year == 9999
    assert parse_period("2011-02").last_day == date(2011, 2, 28)
