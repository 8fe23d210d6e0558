from __future__ import annotations

from pathlib import Path

import pytest

from cli.commands.importing import Format, import_
from cli.showing_orders import show_orders
from contracts.errors import InputError
from stack.composition.intake import refuse_rejected_orders
from traffic.orders.reading import Source
from traffic.orders.report import Figures, OrdersReport, Outcome, Totals

SOURCE = Source(path=Path("a.jsonl"), is_json=True, header=[], lines=3, rows=3, orders=3, state=(0, 0))


def report(*, is_dry_run: bool = False, rejected: int = 1) -> OrdersReport:
    totals = Totals()
    read = Figures(sold=1_500, captured=1_500, refunded=200)
    for line in range(3 - rejected):
        outcome = Outcome(file=0, line=line, booked=read, counts={"payments": 1}, unallocated_minor=500)
        totals.settle(outcome, "EUR", read)
    for line in range(3 - rejected, 3):
        outcome = Outcome(
            file=0, line=line, reason="amount_differs", detail="[1] and 2", is_unfinished=True, booked=Figures(sold=1)
        )
        totals.settle(outcome, "EUR", read)
    return totals.report([SOURCE], {"pod1": 1}, {0: "var/rejects-a.jsonl"}, is_dry_run=is_dry_run)


def test_a_report_shows_what_was_read_booked_and_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    show_orders(report())
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "│ Imported │ 2 │",
        "│ EUR │ sold │ 45.00 │ 30.01 │ 14.99 │",
        "│ EUR │ refunded │ 6.00 │ 4.00 │ 2.00 │",
        "Paid above orders: 10.00 EUR",
        "Unfinished orders: 1.",
        "│ amount differs │ 1 │ a.jsonl, line 2 │ [1] and 2 │",
        "var/rejects-a.jsonl",
    ):
        assert part in shown


def test_a_dry_run_says_what_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    show_orders(report(is_dry_run=True))
    shown = capsys.readouterr().out
    assert "Would be imported" in shown
    assert "Would be booked" in shown


def test_a_file_of_which_everything_was_rejected_is_an_error() -> None:
    refuse_rejected_orders(report())
    with pytest.raises(InputError, match=r"Every order of a\.jsonl was rejected; .*rejects-a\.jsonl"):
        refuse_rejected_orders(report(rejected=3))


@pytest.mark.parametrize(
    ("file_format", "options"),
    [(Format.ORDERS, {"date_order": "day-first"}), (Format.ONLINE_RETAIL, {"dry_run": True})],
)
def test_an_option_of_the_other_format_is_refused(file_format: Format, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="--"):
        import_([Path("a.csv")], file_format, **options)  # type: ignore[arg-type]
