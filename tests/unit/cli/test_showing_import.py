from __future__ import annotations

import pytest

from cli.showing import show_import, show_rejects
from contracts.errors import InputError
from stack.composition.intake import refuse_rejected_files
from traffic.retail.report import FileReport, ImportReport, ReasonReport

REPORT = {
    "rows_read": 3,
    "rows_imported": 2,
    "rows_rejected": 1,
    "amount_read": "3.5",
    "amount_imported": "2.5",
    "amount_rejected": "1.0",
    "rejected": {"no_price": 1},
    "orders": 1,
    "refunds": 0,
    "adjustments": 0,
    "write_offs": 0,
    "already_imported": 0,
    "returns_matched": 0,
    "returns_unmatched": 0,
    "merchants": {"pod1": 1},
    "rejects_file": "/var/rejects.csv",
    "files": (
        FileReport(file="a.csv", lines=2, rows_read=1, rows_rejected=1, date_order="iso"),
        FileReport(file="b.csv", lines=3, rows_read=2, rows_rejected=0, date_order="iso"),
    ),
    "reasons": (ReasonReport(reason="no_price", rows=1, amount="1.000", first_file="a.csv", first_line=2),),
}


@pytest.mark.parametrize(("unfinished", "is_said"), [(0, False), (2, True)])
def test_what_an_import_could_not_finish_is_said(
    unfinished: int, is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show_import(ImportReport(**REPORT, unfinished=unfinished))  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert ("Unfinished: 2 orders and credit notes" in shown) is is_said and "no price" in shown


def test_rejects_are_shown_with_reason_place_and_where_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    show_rejects(ImportReport(**REPORT, unfinished=0))  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    for word in ("no price", "a.csv, line 2", "1.000", "/var/rejects.csv", "Files with rejected rows"):
        assert word in shown
    assert "b.csv" not in shown


def test_a_file_of_which_everything_was_rejected_is_wrong_input() -> None:
    with pytest.raises(InputError, match=r"Every row of a\.csv was rejected; .* /var/rejects\.csv"):
        refuse_rejected_files(ImportReport(**REPORT, unfinished=0))  # type: ignore[arg-type]
