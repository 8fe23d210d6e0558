from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from contracts.events.order import LineKind
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.place_order import PlaceOrder
from oltp.commands.upsert_product import UpsertProduct
from traffic.homes import place_merchants
from traffic.progress import no_progress
from traffic.retail.catalog import tax_rates, upsert_products, vat_ppm
from traffic.retail.dates import DateOrder
from traffic.retail.files import COLUMNS, Source, inspect_files
from traffic.retail.invoice_commands import steps_of
from traffic.retail.invoices import Invoice, InvoiceKey, Survey, needed_units, products_of, read_invoices, survey_files
from traffic.retail.report import ImportReport, Outcome, Totals, combined, format_micro
from traffic.retail.rows import Rejection

UK = "United Kingdom"


def read(tmp_path: Path, *files: Sequence[str]) -> tuple[Survey, list[Invoice], list[Rejection]]:
    paths = []
    for number, rows in enumerate(files):
        path = tmp_path / f"{number}.csv"
        path.write_text("\n".join([",".join(COLUMNS), *rows, ""]))
        paths.append(path)
    rejections: list[Rejection] = []
    sources = inspect_files(paths)
    survey = survey_files(sources, rejections.append, no_progress)
    return survey, list(read_invoices(sources, survey.sizes, rejections.append)), rejections


def row(
    invoice: str, code: str, quantity: int, price: str, *, at: str = "2010-12-01 08:26:00", who: str = "1.0"
) -> str:
    return f"{invoice},{code},NAME OF {code},{quantity},{at},{price},{who},{UK}"


def test_rows_of_an_invoice_come_together_in_file_order(tmp_path: Path) -> None:
    first, second = row("1", "A", 1, "1.0", at="2010-12-01 08:27:00"), row("1", "B", 2, "2.0")
    _, invoices, _ = read(tmp_path, [first, row("2", "A", 1, "1.0"), second, second])
    assert [invoice.key for invoice in invoices] == [("united-kingdom", "2"), ("united-kingdom", "1")]
    assert [item.row.stock_code for item in invoices[1].rows] == ["A", "B", "B"]
    assert [item.ordinal for item in invoices[1].rows] == [1, 2, 3]
    assert invoices[1].invoiced_at.minute == 26
    assert invoices[1].amount_micro == 9_000_000


def test_the_same_invoice_in_two_files_has_one_digest(tmp_path: Path) -> None:
    _, invoices, _ = read(tmp_path, [row("1", "A", 1, "1.0")], [row("1", "A", 1, "1.00")], [row("1", "A", 2, "1.0")])
    assert [invoice.file for invoice in invoices] == [0, 1, 2]
    assert invoices[0].digest == invoices[1].digest != invoices[2].digest


def test_a_guest_row_joins_the_customer_and_another_customer_does_not(tmp_path: Path) -> None:
    rows = [row("1", "A", 1, "1.0", who=""), row("1", "B", 1, "1.0", who="7.0"), row("1", "C", 1, "1.0", who="8.0")]
    _, invoices, rejections = read(tmp_path, rows)
    assert (invoices[0].customer_id, len(invoices[0].rows)) == ("7", 2)
    assert [rejection.reason for rejection in rejections] == ["second_customer_on_invoice"]


def test_spellings_are_variants_of_one_product_with_titles_of_sales(tmp_path: Path) -> None:
    remark = "1,85123A,?,5,2010-12-01 08:26:00,0.0,,United Kingdom"
    survey, _, _ = read(tmp_path, [remark, row("2", "85123A", 1, "2.55"), row("2", "85123a", 1, "2.10")])
    merchant = survey.merchants["united-kingdom"]
    products = products_of(merchant)
    assert {code: list(variants) for code, variants in products.items()} == {"85123A": ["85123A", "85123a"]}
    assert products["85123A"]["85123A"].title == "NAME OF 85123A"
    (command,) = upsert_products("united-kingdom", merchant, {})
    assert isinstance(command.command, UpsertProduct)
    assert [variant.unit_price_micro for variant in command.command.variants] == [2_550_000, 2_100_000]
    existing = {("united-kingdom", "85123A"): "x", ("united-kingdom", "85123a"): "x"}
    assert list(upsert_products("united-kingdom", merchant, existing)) == []


def test_stock_is_needed_for_goods_that_leave(tmp_path: Path) -> None:
    rows = [row("1", "A", 3, "1.0"), row("1", "POST", 2, "1.0"), row("1", "M", 2, "1.0"), row("2", "A", -4, "0.0")]
    _, invoices, _ = read(tmp_path, [*rows, row("C3", "A", -1, "1.0")])
    assert needed_units(invoices) == {("united-kingdom", "A"): 7}


def test_an_invoice_becomes_these_steps(tmp_path: Path) -> None:
    rows = [row("1", "A", 3, "1.0"), row("1", "POST", 2, "18.00"), row("1", "BANK CHARGES", 1, "15.0")]
    _, (invoice,), _ = read(tmp_path, rows)
    steps = steps_of(invoice)
    assert [step.key for step in steps] == [
        f"online-retail/1/{name}" for name in ("place", "authorize", "capture", "fulfill", "row/3")
    ]
    place = steps[0].command
    assert isinstance(place, PlaceOrder)
    assert [(line.sku, line.quantity) for line in place.lines] == [("A", 3)]
    assert [(line.unit_price_micro, line.reason) for line in place.shipping or ()] == [(36_000_000, "POST x 2")]
    again = steps_of(invoice)
    assert [step.command for step in again] == [step.command for step in steps]


def test_free_invoices_need_no_payment_and_write_offs_no_order(tmp_path: Path) -> None:
    _, (free, write_off), _ = read(tmp_path, [row("1", "A", 3, "0.0"), row("2", "A", -3, "0.0")])
    assert [step.key.rpartition("/")[2] for step in steps_of(free)] == ["place", "fulfill"]
    (step,) = steps_of(write_off)
    assert isinstance(step.command, AdjustStock)
    assert step.command.quantity == -3


def test_the_hot_merchant_gets_a_pod_and_the_others_the_other() -> None:
    rows = {"united-kingdom": 900, "germany": 20, "france": 15, "eire": 1}
    homes = place_merchants(rows, {}, ["pod1", "pod2"])
    assert homes == {"united-kingdom": "pod1", "germany": "pod2", "france": "pod2", "eire": "pod2"}
    assert place_merchants(rows, {"germany": "pod1"}, ["pod1", "pod2"])["germany"] == "pod1"


def test_the_rate_is_that_of_the_day_and_exports_are_zero_rated(tmp_path: Path) -> None:
    dates = ["2010-12-31 23:59:00", "2011-01-03 23:59:00", "2011-01-04 00:00:00"]
    _, invoices, _ = read(tmp_path, [row(f"{n}", "A", 1, "1.0", at=at) for n, at in enumerate(dates, start=1)])
    days = [invoice.invoiced_at for invoice in invoices]
    assert [vat_ppm(day) for day in days] == [175_000, 175_000, 200_000]
    assert {rate.tax_category: rate.rate_ppm for rate in tax_rates("united-kingdom", days[2])} == {
        "shipping": 200_000,
        "standard": 200_000,
    }
    assert {rate.rate_ppm for rate in tax_rates("germany", days[2])} == {0}


@pytest.mark.parametrize(
    ("amount_micro", "text"),
    [(748_957_020_000, "748957.020"), (1_000, "0.001"), (-5, "-0.000005"), (0, "0.000"), (-2_500_000, "-2.500")],
)
def test_amounts_keep_three_decimals_or_as_many_as_it_takes(amount_micro: int, text: str) -> None:
    assert format_micro(amount_micro) == text
    assert Decimal(text).scaleb(6) == amount_micro


def report(totals: Totals) -> ImportReport:
    source = Source(path=Path("a.csv"), lines=4, rows=3, date_order=DateOrder.ISO, state=(0, 0))
    return totals.report([source], {"pod1": 1}, None)


def test_a_report_is_balanced_only_when_rows_and_amounts_are() -> None:
    totals = Totals(amount_read_micro=6_000)
    totals.add(combined([Outcome(rows_imported=1, amount_micro=1_000), Outcome(rows_imported=1, amount_micro=2_000)]))
    assert not report(totals).is_balanced
    totals.reject(Rejection(file=0, line=2, reason="because", amount_micro=3_000, fields=()))
    assert report(totals).is_balanced
    assert report(totals).rejected == {"because": 1}
    assert report(totals).rejected_files == []
    (reason,) = report(totals).reasons
    assert (reason.rows, reason.amount, reason.first_file, reason.first_line) == (1, "0.003", "a.csv", 2)
    totals.amount_read_micro += 1
    assert not report(totals).is_balanced


def test_a_file_of_which_every_row_is_rejected_is_named() -> None:
    totals = Totals()
    for line in (4, 2, 3):
        totals.reject(Rejection(file=0, line=line, reason="because", amount_micro=0, fields=()))
    assert report(totals).rejected_files == ["a.csv"]
    assert report(totals).reasons[0].first_line == 2


def test_keys_of_invoices_are_merchant_and_number(tmp_path: Path) -> None:
    other = row("1", "A", 1, "1.0").replace(UK, "EIRE")
    survey, invoices, _ = read(tmp_path, [row("1", "A", 1, "1.0"), other])
    assert [invoice.key for invoice in invoices] == [InvoiceKey("united-kingdom", "1"), InvoiceKey("eire", "1")]
    assert all(item.rule.line_kind is LineKind.GOODS for invoice in invoices for item in invoice.rows)
    assert survey.rows_read == 2
