from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import psycopg
import pytest

from contracts.errors import ConflictError, InputError, UnbalancedImportError
from contracts.settings import Settings
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.place_order import PlaceOrder
from oltp.commands.upsert_product import UpsertProduct
from oltp.directory import placements
from oltp.transaction import CommandTransaction
from traffic.progress import no_progress
from traffic.retail.books import Given, sold_lines
from traffic.retail.catalog import receive_stock, upsert_products
from traffic.retail.credits import plan_credit, sold_key
from traffic.retail.dates import DateOrder
from traffic.retail.files import COLUMNS, inspect_files
from traffic.retail.importing import import_files
from traffic.retail.invoice_commands import steps_of
from traffic.retail.invoices import Invoice, read_invoices, survey_files
from traffic.retail.matching import ReturnMatcher
from traffic.retail.report import FileReport, ImportReport, Totals

UK = "United Kingdom"
SALES = [
    # A plain order with an exact duplicate and a repeated stock code, over two minutes.
    ("536365", "85123A", "HOLDER", 6, "2010-12-01 08:26:00", "2.55", "17850.0", UK),
    ("536365", "85123A", "HOLDER", 6, "2010-12-01 08:26:00", "2.55", "17850.0", UK),
    ("536365", "85123A", "HOLDER", 1, "2010-12-01 08:27:00", "2.10", "17850.0", UK),
    ("536365", "POST", "POSTAGE", 3, "2010-12-01 08:26:00", "18.00", "17850.0", UK),
    # The other spelling, a price below a penny, a voucher, a free line, no customer.
    ("536366", "85123a", "HOLDER", 4, "2010-12-01 09:00:00", "2.55", "", UK),
    ("536366", "PADS", "PADS", 1, "2010-12-01 09:00:00", "0.001", "", UK),
    ("536366", "gift_0001_10", "Voucher £10", 1, "2010-12-01 09:00:00", "8.33", "", UK),
    ("536366", "22041", "FREE", 5, "2010-12-01 09:00:00", "0.0", "", UK),
    # Free altogether; carriage alone; a fee; bad debt both ways; a write-off; a huge sale, cancelled below.
    ("536367", "22041", "FREE", 7, "2010-12-01 10:00:00", "0.0", "", UK),
    ("536368", "C2", "CARRIAGE", 1, "2010-12-01 10:00:00", "150.0", "17850.0", UK),
    ("536369", "AMAZONFEE", "AMAZON FEE", 1, "2010-12-01 10:00:00", "13541.33", "", UK),
    ("A536370", "B", "Adjust bad debt", 1, "2010-12-01 10:00:00", "-11062.06", "", UK),
    ("A536371", "B", "Adjust bad debt", 1, "2010-12-01 10:00:00", "11062.06", "", UK),
    ("536372", "22041", "damaged", -3, "2010-12-01 10:00:00", "0.0", "", UK),
    ("536373", "23166", "JAR", 74215, "2011-01-18 10:01:00", "1.04", "12346.0", UK),
    # An export, and a second order of it with a line that the first did not have, scattered over the file.
    ("536374", "20000", "TIN", 10, "2010-12-02 08:00:00", "1.25", "12500.0", "Germany"),
    ("536375", "20001", "BOX", 2, "2010-12-03 08:00:00", "4.00", "12500.0", "Germany"),
    ("536374", "M", "Manual", 1, "2010-12-02 08:00:00", "5.00", "12500.0", "Germany"),
]
NOTES = [
    # Exact counterpart; parts over two lines and another price (2.10); the other spelling of a guest's order stays
    # unreferenced; carriage whole; discount; a return that nobody sold; units without money.
    ("C536380", "85123A", "HOLDER", -6, "2010-12-05 08:00:00", "2.55", "17850.0", UK),
    ("C536381", "85123a", "HOLDER", -7, "2010-12-06 08:00:00", "2.55", "17850.0", UK),
    ("C536382", "85123a", "HOLDER", -1, "2010-12-06 08:00:00", "2.55", "", UK),
    ("C536383", "POST", "POSTAGE", -3, "2010-12-07 08:00:00", "18.00", "17850.0", UK),
    ("C536383", "D", "Discount", -1, "2010-12-07 08:00:00", "27.50", "17850.0", UK),
    ("C536384", "99999", "GONE", -2, "2010-12-07 08:00:00", "3.00", "17850.0", UK),
    ("C536384", "22041", "FREE", -2, "2010-12-07 08:00:00", "0.0", "17850.0", UK),
    ("C536385", "23166", "JAR", -74215, "2011-01-18 10:17:00", "1.04", "12346.0", UK),
    ("C536386", "20000", "TIN", -4, "2010-12-10 08:00:00", "1.25", "12500.0", "Germany"),
    ("C536386", "20000", "TIN", -4, "2010-12-10 08:00:00", "1.25", "12500.0", "Germany"),
]
BAD = [
    ("536390", "85123A", "HOLDER", "many", "2010-12-05 08:00:00", "2.55", "17850.0", UK),
    ("536390", "85123A", "HOLDER", 1, "never", "2.55", "17850.0", UK),
    ("536390", "85123A", "HOLDER", -1, "2010-12-05 08:00:00", "2.55", "17850.0", UK),
    ("C536391", "85123A", "HOLDER", 2, "2010-12-05 08:00:00", "2.55", "17850.0", UK),
    ("536365", "85123A", "HOLDER", 1, "2010-12-01 08:27:00", "1.00", "99999.0", UK),
    ("536392", "only", "three"),
]
ROWS = [*SALES, *NOTES, *BAD]


def write(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    lines = [",".join(str(field) for field in row) for row in rows]
    path.write_bytes(gzip.compress("\n".join([",".join(COLUMNS), *lines, ""]).encode()))
    return path


def amount(rows: Sequence[Sequence[object]]) -> Decimal:
    return sum((Decimal(str(row[3])) * Decimal(str(row[5])) for row in rows), Decimal(0))


def one(settings: Settings, pod: str, query: str) -> tuple[object, ...]:
    with psycopg.connect(settings.pod(pod).reader_dsn) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row


def books_micro(settings: Settings) -> int:
    """What the books hold, from the tables alone: order lines - completed refunds + adjustments."""
    query = """
    select (select coalesce(sum(quantity * unit_price_micro), 0) from oltp.order_lines)
        - (select coalesce(sum(amount_minor), 0) * 10000 from oltp.refunds where status = 'completed')
        + (select coalesce(sum(amount_minor * 10000 + rounding_micro), 0) from oltp.adjustments)
    """
    return sum(int(str(one(settings, pod.pod, query)[0])) for pod in settings.pods)


def outbox_rows(settings: Settings) -> int:
    return sum(int(str(one(settings, pod.pod, "select count(*) from oltp.outbox")[0])) for pod in settings.pods)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "2010-12.csv.gz", ROWS)


def imported(settings: Settings, *paths: Path) -> ImportReport:
    report = import_files(paths, settings, processes=0)
    assert report.is_balanced
    return report


def test_a_file_with_every_mess_gives_this_report(books: Settings, file: Path) -> None:
    report = imported(books, file)
    bad = amount(BAD[2:5])
    expected = amount([*SALES, *NOTES])
    assert msgspec.structs.asdict(report) == {
        "rows_read": len(ROWS),
        "rows_imported": len(SALES) + len(NOTES),
        "rows_rejected": len(BAD),
        # The row without a readable date has an amount; the two others without readable numbers count as nothing.
        "amount_read": f"{expected + bad + Decimal('2.55'):.3f}",
        "amount_imported": f"{expected:.3f}",
        "amount_rejected": f"{bad + Decimal('2.55'):.3f}",
        "rejected": {
            "date_not_readable": 1,
            "negative_quantity_outside_credit_note": 1,
            "positive_quantity_on_credit_note": 1,
            "quantity_not_a_whole_number": 1,
            "second_customer_on_invoice": 1,
            "wrong_column_count": 1,
        },
        "orders": 7,
        # C536381 has 1 of 2.10 and 6 of 2.55 of one order: one refund, and the difference as an adjustment.
        "refunds": 5,
        # Fee, two of bad debt, difference, unreferenced guest and stranger, discount.
        "adjustments": 7,
        "write_offs": 1,
        "unfinished": 0,
        "already_imported": 0,
        "returns_matched": 6,
        "returns_unmatched": 2,
        "merchants": {"pod1": 1, "pod2": 1},
        "rejects_file": str(books.var_dir / "imports" / "rejects-2010-12.csv"),
        "files": (
            FileReport(
                file=str(file),
                lines=1 + len(ROWS),
                rows_read=len(ROWS),
                rows_rejected=len(BAD),
                date_order="iso",
            ),
        ),
        "reasons": report.reasons,
    }
    assert {reason.reason: (reason.rows, reason.first_line - len(SALES) - len(NOTES)) for reason in report.reasons} == {
        "quantity_not_a_whole_number": (1, 2),
        "date_not_readable": (1, 3),
        "negative_quantity_outside_credit_note": (1, 4),
        "positive_quantity_on_credit_note": (1, 5),
        "second_customer_on_invoice": (1, 6),
        "wrong_column_count": (1, 7),
    }
    assert Path(str(report.rejects_file)).read_text().count("\n") == 1 + len(BAD)
    assert books_micro(books) == expected.scaleb(6)


def test_what_the_books_then_hold(books: Settings, file: Path) -> None:
    imported(books, file)
    homes = {placement.merchant_id: placement.pod for placement in placements(books.control_dsn)}
    assert homes == {"united-kingdom": "pod1", "germany": "pod2"}
    order = "select status, customer_id, total_minor, placed_at::text, source from oltp.orders where order_number = "
    assert one(books, "pod1", order + "'536365'")[:3] == ("fulfilled", "17850", 3060 + 210 + 5400)
    assert str(one(books, "pod1", order + "'536365'")[3]).startswith("2010-12-01 08:26:00")
    lines = """
    select array_agg(sku || ' ' || quantity order by line_number)
    from oltp.order_lines join oltp.orders using (order_id)
    where order_number = '536365'
    """
    assert one(books, "pod1", lines) == (["85123A 6", "85123A 6", "85123A 1", "SHIPPING 1"],)
    rounding = "select rounding_micro from oltp.orders where order_number = '536366'"
    assert one(books, "pod1", rounding) == (1_000,)
    payments = "select count(*) from oltp.payments join oltp.orders using (order_id) where order_number = '536367'"
    assert one(books, "pod1", payments) == (0,)
    tax = "select distinct rate_ppm from oltp.order_tax_lines join oltp.orders using (order_id) where order_number = "
    assert one(books, "pod1", tax + "'536365'") == (175_000,)
    assert one(books, "pod1", tax + "'536373'") == (200_000,)
    assert one(books, "pod2", tax + "'536374'") == (0,)
    identity = "select count(*) from oltp.stock_identity_violations"
    assert one(books, "pod1", identity) == one(books, "pod2", identity) == (0,)
    spellings = "select count(distinct product_id), count(*) from oltp.variants where upper(sku) = '85123A'"
    assert one(books, "pod1", spellings) == (1, 2)
    kinds = "select array_agg(kind || ' ' || amount_minor order by kind, amount_minor) from oltp.adjustments"
    assert one(books, "pod1", kinds) == (
        [
            "bad_debt -1106206",
            "bad_debt 1106206",
            "discount -2750",
            "fee 1354133",
            "manual -45",
            "unreferenced_return -600",
            "unreferenced_return -255",
        ],
    )


def test_the_same_file_again_books_nothing(books: Settings, file: Path, tmp_path: Path) -> None:
    first = imported(books, file)
    events = outbox_rows(books)
    copy = write(tmp_path / "under_another_name.csv", ROWS)
    again = imported(books, copy, file)
    assert outbox_rows(books) == events
    assert again.already_imported == again.rows_imported == 2 * first.rows_imported
    assert (again.orders, again.refunds, again.adjustments, again.write_offs) == (0, 0, 0, 0)
    assert Decimal(again.amount_imported) == 2 * Decimal(first.amount_imported)


def test_files_in_any_order_and_any_number_of_runs_end_alike(books: Settings, tmp_path: Path) -> None:
    early, late = write(tmp_path / "a.csv", SALES), write(tmp_path / "b.csv", NOTES)
    report = imported(books, late, early)
    assert (report.refunds, report.returns_matched) == (5, 6)
    assert books_micro(books) == amount([*SALES, *NOTES]).scaleb(6)


def test_returns_find_orders_of_an_earlier_run(books: Settings, tmp_path: Path) -> None:
    imported(books, write(tmp_path / "a.csv", SALES))
    report = imported(books, write(tmp_path / "b.csv", NOTES))
    assert (report.orders, report.refunds, report.returns_matched) == (0, 5, 6)
    assert books_micro(books) == amount([*SALES, *NOTES]).scaleb(6)


def test_a_changed_invoice_is_rejected_not_booked_again(books: Settings, tmp_path: Path) -> None:
    imported(books, write(tmp_path / "a.csv", SALES))
    events = outbox_rows(books)
    changed = [("536375", "20001", "BOX", 3, "2010-12-03 08:00:00", "4.00", "12500.0", "Germany")]
    fee = [("536369", "AMAZONFEE", "AMAZON FEE", 1, "2010-12-01 10:00:00", "1.00", "", UK)]
    report = imported(books, write(tmp_path / "b.csv", [*changed, *fee]))
    assert report.rejected == {"invoice_exists_with_other_content": 2}
    assert report.rows_imported == 0
    # The units of the changed order were received before the books refused it: stock only, no money.
    assert outbox_rows(books) - events <= 1
    assert books_micro(books) == amount(SALES).scaleb(6)


@pytest.mark.parametrize("step", ["creating products", "placing orders", "booking credit notes"])
def test_an_interrupted_import_is_finished_by_the_next(books: Settings, file: Path, step: str) -> None:
    def interrupt(name: str, done: int, total: int) -> None:
        if name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_files([file], books, interrupt, processes=0)
    report = imported(books, file)
    assert report.rows_imported == len(SALES) + len(NOTES)
    assert books_micro(books) == amount([*SALES, *NOTES]).scaleb(6)
    for table, count in (("orders", 7), ("refunds", 5), ("adjustments", 7)):
        counts = [int(str(one(books, pod.pod, f"select count(*) from oltp.{table}")[0])) for pod in books.pods]
        assert sum(counts) == count, table


def test_a_credit_note_torn_in_the_middle_is_continued(books: Settings, tmp_path: Path) -> None:
    imported(books, write(tmp_path / "a.csv", SALES))
    pod = build_command_pod(books.pod("pod1"), control_dsn=books.control_dsn)
    note = next(read_invoices_of(write(tmp_path / "b.csv", NOTES), "C536381"))
    with psycopg.connect(books.pod("pod1").reader_dsn) as connection:
        keys = [key for item in note.rows if (key := sold_key(note, item))]
        plan = plan_credit(note, ReturnMatcher(sold_lines(connection, keys)), Given(), ())
    with pod:
        # Requested, and then the process died.
        execute(pod, plan.refunds[0], idempotency_key="torn", occurred_at=note.invoiced_at)
    report = imported(books, tmp_path / "b.csv")
    assert report.rows_imported == len(NOTES)
    assert books_micro(books) == amount([*SALES, *NOTES]).scaleb(6)
    assert one(books, "pod1", "select count(*) from oltp.refunds where status <> 'completed'") == (0,)
    assert one(books, "pod1", "select count(*) from oltp.refunds where external_reference = 'C536381'") == (1,)


def test_a_changed_credit_note_is_rejected_and_of_it_nothing_is_booked(books: Settings, tmp_path: Path) -> None:
    imported(books, write(tmp_path / "a.csv", ROWS))
    events = outbox_rows(books)
    fewer = ("C536380", "85123A", "HOLDER", -5, "2010-12-05 08:00:00", "2.55", "17850.0", UK)
    dearer = ("C536385", "23166", "JAR", -74215, "2011-01-18 10:17:00", "1.05", "12346.0", UK)
    postage, discount = NOTES[3], ("C536383", "D", "Discount", -1, "2010-12-07 08:00:00", "30.00", "17850.0", UK)
    more = ("C536384", "99999", "GONE", -3, "2010-12-07 08:00:00", "3.00", "17850.0", UK)
    for _ in range(2):
        report = imported(books, write(tmp_path / "b.csv", [fewer, dearer, postage, discount, more, NOTES[6]]))
        assert report.rejected["invoice_exists_with_other_content"] >= 5
        assert outbox_rows(books) == events
        assert (report.refunds, report.adjustments) == (0, 0)
    assert books_micro(books) == amount([*SALES, *NOTES]).scaleb(6)


def test_a_refused_step_ends_neither_the_import_nor_the_balance(
    books: Settings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tx: CommandTransaction) -> None:
        raise ConflictError("Not today.")

    for command in (FulfillOrder, CompleteRefund):
        monkeypatch.setattr(command, "run", lambda self, tx: refuse(tx))
    report = imported(books, file)
    # Orders are booked, unshipped; the returns of notes with a refund are rejected, with what is not booked of them.
    assert (report.orders, report.refunds, report.unfinished) == (7, 0, 12)
    assert report.rejected["refused_by_the_books"] == 6
    assert books_micro(books) == Decimal(report.amount_imported).scaleb(6)
    monkeypatch.undo()
    again = imported(books, file)
    assert (again.unfinished, again.rows_imported) == (0, len(SALES) + len(NOTES))
    assert books_micro(books) == amount([*SALES, *NOTES]).scaleb(6)


def test_a_copy_ends_as_its_first_one_does(books: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: PlaceOrder, tx: CommandTransaction) -> None:
        raise ConflictError("Not today.")

    monkeypatch.setattr(PlaceOrder, "run", refuse)
    report = imported(books, write(tmp_path / "a.csv", SALES[8:12]), write(tmp_path / "b.csv", SALES[8:12]))
    assert (report.rows_imported, report.already_imported) == (4, 2)
    assert report.rejected == {"refused_by_the_books": 4}
    assert books_micro(books) == Decimal(report.amount_imported).scaleb(6) / 2


def test_an_import_torn_between_placing_and_paying_receives_nothing_twice(books: Settings, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [SALES[14], SALES[13]])
    invoice = next(read_invoices_of(path, "536373"))
    imported(books, write(tmp_path / "b.csv", [SALES[13]]))
    pod = build_command_pod(books.pod("pod1"), control_dsn=books.control_dsn)
    survey = survey_files(inspect_files([path]), lambda _: None, no_progress)
    merchant = survey.merchants["united-kingdom"]
    with pod:
        for product in upsert_products("united-kingdom", merchant, {}):
            execute(pod, product.command, idempotency_key=product.key)
        for delivery in receive_stock("united-kingdom", {"23166": 74215}, merchant.first_at, "torn"):
            execute(pod, delivery.command, idempotency_key=delivery.key)
        placing = steps_of(invoice)[0]
        execute(pod, placing.command, idempotency_key=placing.key, occurred_at=invoice.invoiced_at)
    imported(books, path)
    assert one(books, "pod1", "select sum(on_hand), sum(reserved) from oltp.stock_levels") == (0, 0)


def test_an_import_that_loses_rows_is_an_error(books: Settings, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Totals, "reject", lambda totals, rejection: None)
    with pytest.raises(UnbalancedImportError, match=r"read 34 rows .* rejected 0 of 0\.000; its"):
        import_files([file], books, processes=0)


def test_a_stray_quote_books_nothing_and_says_where(books: Settings, tmp_path: Path) -> None:
    rows = [("560000", f"SKU{n}", f"THING {n}", 2, "2011-07-01 10:00:00", "1.25", "1.0", "France") for n in range(40)]
    rows[10] = (*rows[10][:2], '"' + rows[10][2], *rows[10][3:])
    with pytest.raises(InputError, match="line 12: a quote opens there and does not close before line 13"):
        import_files([write(tmp_path / "a.csv", rows)], books, processes=0)
    assert outbox_rows(books) == 0


@pytest.mark.parametrize("order", [None, *DateOrder])
def test_day_first_dates_are_booked_on_their_days_or_not_at_all(
    books: Settings, tmp_path: Path, order: DateOrder | None
) -> None:
    days = ["02", "03", "05", "13", "21"]
    rows = [
        (f"57000{n}", "A", "THING", 1, f"{day}/12/2011 09:30", "2.00", "1.0", "France") for n, day in enumerate(days)
    ]
    path = write(tmp_path / "a.csv", rows)
    if order not in (None, DateOrder.DAY_FIRST):
        with pytest.raises(InputError, match=f"in the order {order}"):
            import_files([path], books, date_order=order, processes=0)
        assert outbox_rows(books) == 0
        return
    report = import_files([path], books, date_order=order, processes=0)
    assert (report.rows_imported, report.files[0].date_order) == (5, "day-first")
    placed = one(books, "pod1", "select array_agg(placed_at::date::text order by placed_at) from oltp.orders")
    assert placed == ([f"2011-12-{day}" for day in days],)


def test_dates_that_prove_nothing_wait_for_a_declaration(books: Settings, tmp_path: Path) -> None:
    good = write(tmp_path / "a.csv", SALES)
    doubtful = write(tmp_path / "b.csv", [("570000", "A", "THING", 1, "02/12/2011 09:30", "2.00", "1.0", "France")])
    with pytest.raises(InputError, match=r"b\.csv does not show .* --date-order"):
        import_files([good, doubtful], books, processes=0)
    assert outbox_rows(books) == 0
    report = import_files([doubtful], books, date_order=DateOrder.DAY_FIRST, processes=0)
    assert report.rows_imported == 1
    assert one(books, "pod1", "select placed_at::date::text from oltp.orders") == ("2011-12-02",)


def test_the_same_invoice_in_two_files_with_other_rows_is_rejected_in_the_second(
    books: Settings, tmp_path: Path
) -> None:
    first, second = write(tmp_path / "a.csv", SALES), write(tmp_path / "b.csv", [SALES[0], SALES[2], SALES[10]])
    report = imported(books, first, second)
    assert report.rejected == {"invoice_differs_between_files": 2}
    assert (report.rows_imported, report.already_imported) == (len(SALES) + 1, 1)
    assert [file.rows_rejected for file in report.files] == [0, 2]
    assert books_micro(books) == amount(SALES).scaleb(6)


def test_overlapping_files_book_each_invoice_once(books: Settings, tmp_path: Path) -> None:
    imported(books, write(tmp_path / "a.csv", SALES[:11]))
    report = imported(books, write(tmp_path / "b.csv", SALES[8:]), write(tmp_path / "c.csv", SALES))
    assert report.rows_rejected == 0
    assert books_micro(books) == amount(SALES).scaleb(6)
    assert sum(int(str(one(books, pod.pod, "select count(*) from oltp.orders")[0])) for pod in books.pods) == 7


def test_a_file_without_one_good_row_is_named(books: Settings, tmp_path: Path) -> None:
    report = imported(books, write(tmp_path / "a.csv", SALES), write(tmp_path / "b.csv", BAD[:4]))
    assert report.rejected_files == [str(tmp_path / "b.csv")]


def test_what_the_books_refuse_of_catalog_and_stock_rejects_those_rows_alone(
    books: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_boxes(command: UpsertProduct, tx: CommandTransaction) -> object:
        if command.variants[0].sku == "20001":
            raise InputError("Boxes are not for us.")
        return upsert(command, tx)

    upsert = UpsertProduct.run
    monkeypatch.setattr(UpsertProduct, "run", refuse_boxes)
    report = imported(books, write(tmp_path / "a.csv", SALES))
    assert report.rejected == {"refused_by_the_books": 1}
    assert report.rows_imported == len(SALES) - 1
    assert "Merchant germany sells no SKU '20001'." in Path(str(report.rejects_file)).read_text()
    assert books_micro(books) == amount([row for row in SALES if row[1] != "20001"]).scaleb(6)


def test_the_largest_quantities_and_amounts_end_in_books_or_rejects_that_add_up(
    books: Settings, tmp_path: Path
) -> None:
    huge = [
        ("600000", "A", "THING", 10**9, "2011-07-01 10:00:00", "0.001", "1.0", "France"),
        ("600000", "A", "THING", 10**9, "2011-07-01 10:00:00", "0.001", "1.0", "France"),
        ("600001", "A", "THING", 10**9, "2011-07-01 10:00:00", "1.00", "1.0", "France"),
        ("600002", "A", "THING", 1, "2011-07-01 10:00:00", "999999999", "1.0", "France"),
        ("600003", "A", "THING", 10**9, "2011-07-01 10:00:00", "1.01", "1.0", "France"),
        ("600004", "B", "THING", -(10**9), "2011-07-01 10:00:00", "0", "", "France"),
        ("C600005", "A", "THING", -(10**9), "2011-07-02 10:00:00", "1.00", "1.0", "France"),
        ("600006", "AMAZONFEE", "FEE", -1, "2011-07-02 10:00:00", "999999999.999999", "", "France"),
        ("600007", "C", "THING", 1, "2011-07-01 10:00:00", "2.00", "1.0", "France"),
    ]
    report = imported(books, write(tmp_path / "a.csv", huge))
    assert report.rejected["amount_out_of_range"] == 1
    assert report.rows_read == len(huge)
    assert books_micro(books) == Decimal(report.amount_imported).scaleb(6)
    assert one(books, "pod1", "select count(*) from oltp.orders where order_number = '600007'") == (1,)


def test_two_imports_at_once_are_refused(books: Settings, file: Path) -> None:
    with psycopg.connect(books.control_dsn) as connection:
        connection.execute("select pg_advisory_lock(hashtext('tieout import'))")
        with pytest.raises(ConflictError, match="Another import"):
            import_files([file], books, processes=0)


def read_invoices_of(path: Path, number: str) -> Iterator[Invoice]:
    sources = inspect_files([path])
    survey = survey_files(sources, lambda _: None, no_progress)
    return (invoice for invoice in read_invoices(sources, survey.sizes, lambda _: None) if invoice.key.number == number)


def test_a_bad_file_among_good_ones_leaves_the_books_alone(books: Settings, file: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(file.read_bytes()[:-40])
    for bad in (tmp_path / "missing.csv", torn):
        with pytest.raises(InputError):
            import_files([file, bad], books, processes=0)
    assert outbox_rows(books) == 0


def test_a_return_without_an_order_gives_its_tax_back(books: Settings, tmp_path: Path) -> None:
    rows = [
        ("580000", "SKU1", "THING", 10, "2011-07-01 10:00:00", "6.00", "", UK),
        ("C580001", "SKU1", "THING", -3, "2011-07-02 10:00:00", "6.00", "", UK),
        ("580002", "AMAZONFEE", "AMAZON FEE", -1, "2011-07-02 10:00:00", "5.00", "", UK),
    ]
    imported(books, write(tmp_path / "guest.csv", rows))
    assert one(books, "pod1", "select sum(tax_minor) from oltp.orders") == (1_000,)
    basis = "select amount_minor, tax_minor, tax_category, rate_ppm from oltp.adjustments where kind = "
    assert one(books, "pod1", basis + "'unreferenced_return'") == (-1_800, -300, "standard", 200_000)
    assert one(books, "pod1", basis + "'fee'") == (-500, 0, None, None)
