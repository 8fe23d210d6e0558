"""A control database that was set back to before a month was closed does not let it be closed again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from contracts.errors import ConflictError, StackError
from contracts.settings import Settings
from finance.books import closed_periods, migrate
from finance.closings import FILE, forgotten, remember
from stack.composition import session
from stack.looking.reporting import make_report
from tests.conftest import Cluster, MakeDatabase
from tests.integration.stack.test_older_databases import older
from tests.integration.test_books import closed, write


def test_books_that_were_set_back_know_what_they_have_forgotten(
    postgres: Cluster, make_database: MakeDatabase, tmp_path: Path
) -> None:
    dsn, folder = make_database("tieout_control"), tmp_path / "backup"
    migrate(dsn)
    write(dsn, closed("2010-12", pod1=5))
    remember(folder, closed_periods(dsn))
    assert list(forgotten(folder, closed_periods(dsn))) == []
    with older(postgres, dsn) as put_back:
        write(dsn, closed("2011-01", pod1=8))
        remember(folder, closed_periods(dsn))
        assert list(forgotten(folder, closed_periods(dsn))) == []
        put_back()

    (sentence,) = forgotten(folder, closed_periods(dsn))
    assert sentence.startswith("2011-01 was closed on 2011-02-03 00:00 UTC by ada, and the books do not have that")
    # It stays known whatever is noted after it.
    remember(folder, closed_periods(dsn))
    assert list(forgotten(folder, closed_periods(dsn))) == [sentence]
    # An empty control database has forgotten both.
    assert len(list(forgotten(folder, []))) == 2


def test_who_asks_for_months_is_told_what_the_books_have_forgotten(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def opened(_progress: object) -> Iterator[Settings]:
        yield settings

    monkeypatch.setattr(session, "open_session", opened)
    migrate(settings.control_dsn)
    write(settings.control_dsn, closed("2010-12", pod1=5))
    assert run("periods")[0] == 0
    # Another copy of these books closed a month more, and was replaced by this one.
    remember(settings.lake_backup_path, [closed("2011-01", pod1=8)])

    code, answer = run("periods")
    (sentence,) = answer["forgotten"]
    assert code == 1 and [one["period"] for one in answer["periods"]] == ["2010-12"]
    assert sentence.startswith("2011-01 was closed on 2011-02-03 00:00 UTC by ada")
    assert "Forgotten: 2011-01 was closed on" in CliRunner().invoke(app, ["periods"]).stdout
    # Neither it nor the months after it are shown as if they were open.
    for month in ("2011-01", "2011-02"):
        with pytest.raises(ConflictError, match=f"report of {month} cannot be told: 2011-01 was closed on"):
            make_report(settings, "daily", period=month)
    Path(str(settings.lake_backup_path), FILE).write_text("[{", encoding="utf-8")
    code, answer = run("periods")
    assert code == 1 and "cannot be read" in answer["forgotten"][0] and len(answer["periods"]) == 1


def run(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Return a command's exit code and its JSON answer."""
    outcome = CliRunner().invoke(app, [*arguments, "--json"])
    return outcome.exit_code, json.loads(outcome.stdout)


def test_a_note_that_cannot_be_read_or_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_text("[{", encoding="utf-8")
    with pytest.raises(StackError, match="cannot be read"):
        list(forgotten(tmp_path, []))
    with caplog.at_level(logging.WARNING):
        remember(tmp_path, [closed("2010-12", pod1=5)])
    assert "could not be noted" in caplog.text
