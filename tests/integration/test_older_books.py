"""A control database that was set back to before a month was closed does not let it be closed again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from contracts.errors import StackError
from finance.books import closed_periods, migrate
from finance.closings import FILE, forgotten, remember
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


def test_a_note_that_cannot_be_read_or_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_text("[{", encoding="utf-8")
    with pytest.raises(StackError, match="cannot be read"):
        list(forgotten(tmp_path, []))
    with caplog.at_level(logging.WARNING):
        remember(tmp_path, [closed("2010-12", pod1=5)])
    assert "could not be noted" in caplog.text
