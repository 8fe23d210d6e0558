from __future__ import annotations

import pytest

from stack.commands.showing import show_import
from traffic.retail.report import ImportReport

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
    "rejects_file": None,
}


@pytest.mark.parametrize(("unfinished", "is_said"), [(0, False), (2, True)])
def test_what_an_import_could_not_finish_is_said(
    unfinished: int, is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show_import(ImportReport(**REPORT, unfinished=unfinished))  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert ("Unfinished: 2 orders and credit notes" in shown) is is_said and "no price" in shown
