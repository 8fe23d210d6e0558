"""Orders of a shop's own, imported into the pods: every kind of thing, again, torn, changed, rejected and mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contracts.errors import ConflictError
from contracts.settings import Settings
from examples.shop_orders import orders
from oltp.commands.batch import execute_batch
from oltp.directory import migrate_directory
from tests.conftest import MakeDatabase, MakePod
from tests.unit.traffic.order_files import LATER, LINES, QUEBEC, Json, order, paid, refund
from traffic.only_import import only_import
from traffic.orders import booking
from traffic.orders.importing import import_orders
from traffic.orders.mapping import DIRECT
from traffic.orders.report import OrdersReport
from traffic.progress import no_progress

CONTENT = (
    "select order_number, customer_id, version, status, total_minor, cancelled_minor, placed_at from oltp.orders "
    "order by merchant_id, 1",
    "select order_number, line_number, sku, quantity, fulfilled_quantity, withdrawn_quantity, cancelled_quantity, "
    "order_lines.total_minor from oltp.order_lines inner join oltp.orders using (order_id) "
    "order by orders.merchant_id, 1, 2",
    "select order_number, provider, provider_reference, payments.version, payments.status, authorized_minor, "
    "captured_minor, refunded_minor from oltp.payments inner join oltp.orders using (order_id) "
    "order by payments.merchant_id, 1, 3",
    "select external_reference, status, amount_minor, tax_minor from oltp.refunds order by merchant_id, 1, 2",
    "select external_reference, kind, amount_minor from oltp.adjustments order by merchant_id, 1",
    "select variants.sku, on_hand, reserved from oltp.stock_levels "
    "inner join oltp.variants using (variant_id) order by variants.merchant_id, 1",
    "select kind, sum(quantity) from oltp.stock_movements group by 1 order by 1",
    "select aggregate_type, event_type, count(*) from oltp.outbox where aggregate_type not in ('merchant') "
    "group by 1, 2 order by 1, 2",
)


def write(path: Path, given: list[Json]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in given))
    return path


def imported(books: Settings, path: Path, **options: Any) -> OrdersReport:
    return import_orders([path], books, DIRECT, **{"processes": 0, **options})


def content(books: Settings) -> list[list[tuple[Any, ...]]]:
    found = []
    for pod in books.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            found += [connection.execute(query.encode()).fetchall() for query in CONTENT]
            assert connection.execute("select * from oltp.stock_identity_violations").fetchall() == []
    return found


def rows(books: Settings, query: str) -> list[tuple[Any, ...]]:
    found = []
    for pod in books.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            found += connection.execute(query.encode()).fetchall()
    return found


def counts(report: OrdersReport) -> dict[str, int]:
    return {name: getattr(report, name) for name in ("payments", "refunds", "fulfillments")}


def money(report: OrdersReport) -> dict[tuple[str, str], tuple[Decimal, Decimal, Decimal]]:
    return {
        (item.currency, item.amount): (Decimal(item.read), Decimal(item.imported), Decimal(item.rejected))
        for item in report.amounts
    }


def test_orders_of_every_kind_are_in_the_books_to_the_cent_and_again_nothing_doubles(
    books: Settings, tmp_path: Path
) -> None:
    given = list(orders(120, seed=11))
    path = write(tmp_path / "orders.jsonl", given)
    dry = imported(books, path, is_dry_run=True)
    assert (dry.orders_imported, rows(books, "select 1 from oltp.outbox"), list(tmp_path.iterdir())) == (
        120,
        [],
        [path],
    )
    report = imported(books, path)
    assert (report.orders_read, report.orders_imported, report.rejected, report.unfinished) == (120, 120, {}, 0)
    assert (report.amounts, report.payments, report.refunds) == (dry.amounts, dry.payments, dry.refunds)
    for currency in ("EUR", "CAD"):
        mine = [one for one in given if one["currency"] == currency]
        captured = sum(Decimal(item.get("captured", 0)) for one in mine for item in one.get("payments", ()))
        query = f"select captured_minor, refunded_minor from oltp.payments where currency = '{currency}'"
        held = [sum(column) for column in zip(*rows(books, query), strict=True)]
        assert [Decimal(minor) / 100 for minor in held] == [
            captured,
            money(report)[currency, "refunded"][1],
        ]
        sold = sum(Decimal(one.get("total", 0)) for one in mine) + Decimal(report.unallocated.get(currency, "0"))
        total = sum(row[0] for row in rows(books, f"select total_minor from oltp.orders where currency = '{currency}'"))
        assert Decimal(total) / 100 == sold == money(report)[currency, "sold"][0]
    before = content(books)
    again = imported(books, path)
    assert (again.already_imported, again.payments, again.amounts) == (120, 0, report.amounts)
    assert content(books) == before


def test_payments_keep_their_method_and_reference_and_taxes_their_places(books: Settings, tmp_path: Path) -> None:
    line = {"sku": "MUG", "quantity": 3, "unit_price": "12.35", "discount": "2.00", "taxes": QUEBEC}
    taxed = order(order_number="2", is_tax_inclusive=False, lines=[line])
    declined = {"reference": "no", "method": "paypal", "is_declined": True}
    given = [order(payments=[declined, paid("39.87")], total="39.86"), taxed]
    mapping = DIRECT.__class__(format_version=1, rounding_allowance=Decimal("0.01"))
    report = import_orders([write(tmp_path / "a.jsonl", given)], books, mapping, processes=0)
    assert report.rejected == {}
    payments = rows(books, "select provider, provider_reference, status, captured_minor from oltp.payments order by 1")
    assert payments == [("card", "ch_1", "captured", 3987), ("paypal", "", "declined", 0)]
    assert rows(books, "select kind, amount_minor, external_reference from oltp.adjustments") == [("manual", -1, "1")]
    taxes = rows(books, "select jurisdiction, tax_minor from oltp.order_line_taxes order by 1")
    assert taxes == [("CA", 175), ("CA-QC", 350)]


def test_what_gift_cards_paid_is_issued_spent_and_given_back_onto_them(books: Settings, tmp_path: Path) -> None:
    given = [
        order(payments=[paid("30", gift_card="GC-7"), paid("9.87", "rest")], refunds=[refund(amount="5.01")]),
        order(order_number="2", payments=[paid("39.87", gift_card="GC-7", is_gift_card_granted=True)]),
        order(order_number="3", payments=[paid("40", gift_card="GC-8")]),
    ]
    path = write(tmp_path / "orders.jsonl", given)
    dry = imported(books, path, is_dry_run=True)
    assert rows(books, "select 1 from oltp.gift_cards") == []
    report = imported(books, path)
    assert report.rejected == dry.rejected == {"gift_card_above_order": 1}
    assert (report.orders_imported, report.payments, report.refunds) == (2, 3, 1)
    assert report.amounts == dry.amounts and money(report)["EUR", "captured"][1] == Decimal("79.74")
    cards = "select funding, external_reference, issued_minor, credited_minor, redeemed_minor, balance_minor "
    before = rows(books, f"{cards} from oltp.gift_cards order by funding")
    assert before == [("granted", "GC-7", 3987, 0, 3987, 0), ("sold", "GC-7", 3000, 501, 3000, 501)]
    assert rows(books, "select r.gift_card_id = p.gift_card_id from oltp.refunds as r join oltp.payments as p "
                       "using (payment_id)") == [(True,)]  # fmt: skip
    once = content(books)
    assert imported(books, path).already_imported == 2 and content(books) == once
    # Paid in another way than before, it is another order of that number.
    write(path, [order(order_number="2", payments=[paid("39.87")])])
    assert imported(books, path).rejected == {"order_exists_with_other_content": 1}


def test_an_order_that_grew_is_continued_and_one_that_changed_is_rejected_by_name(
    books: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    first = order(payments=[paid("39.87")])
    imported(books, write(path, [first]))
    grown = {**first, "fulfillments": [{"shipped_at": LATER}], "refunds": [refund(amount="5")]}
    dry = imported(books, write(path, [grown]), is_dry_run=True)
    report = imported(books, path)
    assert (report.orders_imported, report.already_imported) == (1, 0)
    # What was booked before is not booked again, and not said to be.
    assert counts(dry) == counts(report) == {"payments": 0, "refunds": 1, "fulfillments": 1}
    before = content(books)
    for other in (
        first,
        {**grown, "customer_id": "somebody else"},
        {**grown, "payments": [paid("39.00")]},
        {**grown, "refunds": [refund(amount="6")]},
        {**grown, "lines": [*LINES, {"sku": "NEW", "unit_price": "1"}]},
        {**grown, "placed_at": "2026-01-04T10:00:00Z"},
    ):
        report = imported(books, write(path, [other]))
        assert (report.rejected, report.orders_imported) == ({"order_exists_with_other_content": 1}, 0)
    assert content(books) == before


def test_one_bad_order_stops_only_itself_and_is_imported_once_it_is_mended(books: Settings, tmp_path: Path) -> None:
    good = [order(order_number=str(number), payments=[paid("39.87")]) for number in range(1, 4)]
    bad = order(order_number="4", payments=[paid("39.87")], total="39.80")
    twice = [order(order_number="5"), order(order_number="5", total="39.87")]
    path = write(tmp_path / "a.jsonl", [*good, bad, *twice, good[0]])
    path.write_text(path.read_text() + "{broken\n")
    report = imported(books, path)
    assert report.rejected == {"amount_differs": 1, "not_json": 1, "order_stands_twice_with_other_content": 2}
    assert (report.orders_read, report.orders_imported, report.already_imported) == (8, 4, 1)
    assert money(report)["EUR", "captured"] == (Decimal("199.35"), Decimal("159.48"), Decimal("39.87"))
    (rejects,) = report.rejects_files
    mended = [line.replace("39.80", "39.87") for line in Path(rejects).read_text().splitlines() if "39.80" in line]
    again = tmp_path / "mended.jsonl"
    again.write_text("\n".join(mended))
    assert imported(books, again).orders_imported == 1
    assert rows(books, "select count(*) from oltp.orders where total_minor = 3987") in ([(4,), (0,)], [(0,), (4,)])


def test_an_import_torn_at_any_step_ends_like_one_that_was_not(
    books: Settings,
    make_pod: MakePod,
    make_database: MakeDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control_dsn = make_database("tieout_control")
    migrate_directory(control_dsn)
    whole = replace(books, pods=(make_pod("pod1"), make_pod("pod2")), control_dsn=control_dsn)
    path = write(tmp_path / "a.jsonl", list(orders(60, seed=3)))
    steps = 0

    def torn_after(count: int) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == count:
                # What a kill leaves: some orders of the batch have got further than others.
                execute_batch(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise KeyboardInterrupt
            return execute_batch(*arguments)

        return run

    for count in (1, 3, 6, 9):
        steps = 0
        monkeypatch.setattr(booking, "execute_batch", torn_after(count))
        with pytest.raises(KeyboardInterrupt):
            imported(books, path)
    monkeypatch.undo()
    report = imported(books, path)
    assert (report.orders_imported, report.rejected, report.unfinished) == (60, {}, 0)
    assert report.amounts == imported(whole, path).amounts
    assert content(books) == content(whole)
    assert imported(books, path).already_imported == 60
    assert content(books) == content(whole)


def test_two_imports_at_once_are_refused(books: Settings, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [order()])
    with only_import(books), pytest.raises(ConflictError, match="Another import is running"):
        imported(books, path)
    assert imported(books, path, on_progress=no_progress).orders_imported == 1
