"""Files of orders: which rows form an order, what refuses a file, and what a mapping makes of other people's names."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest

from contracts.errors import InputError
from tests.unit.traffic.order_files import PLACED, VAT, order, paid
from traffic.orders.documents import order_of
from traffic.orders.format import OrderRecord
from traffic.orders.mapping import DIRECT, Mapping, RejectedError, read_mapping
from traffic.orders.reading import RawOrder, inspect_files, read_orders
from traffic.orders.rejects import RejectsFiles
from traffic.orders.twice import Twice

HEADER = (
    "merchant_id,order_number,placed_at,currency,jurisdiction,is_tax_inclusive,line.sku,line.quantity,line.unit_price,"
    "tax1.rate_percent,tax2.rate_percent,payment.reference,payment.captured"
)
EXAMPLES = Path(__file__).resolve().parents[3] / "examples/orders"


def row(number: str, *rest: str, sku: str = "TEA") -> str:
    return f"acme,{number},{PLACED},EUR,DE,true,{sku},2,1.50,{','.join(rest or ('19', '', '', ''))}"


def read(path: Path, text: str, mapping: Mapping = DIRECT) -> list[RawOrder]:
    path.write_text(text, encoding="utf-8")
    return list(read_orders(inspect_files([path], mapping), mapping))


def records(raws: list[RawOrder]) -> list[OrderRecord]:
    assert [raw.reason for raw in raws] == [""] * len(raws)
    return [order_of(raw.document) for raw in raws]


def test_rows_that_stand_together_are_one_order_and_what_is_repeated_counts_once(tmp_path: Path) -> None:
    text = "\n".join([HEADER, row("1", "19", "", "ch", "5"), row("1", "7", "2", "ch", "5", sku="CUP"), row("2")])
    first, second = records(read(tmp_path / "a.csv", text))
    assert [(line.sku, [str(tax.rate_percent) for tax in line.taxes]) for line in first.lines] == [
        ("TEA", ["19"]),
        ("CUP", ["7", "2"]),
    ]
    assert [str(payment.captured) for payment in first.payments] == ["5"]
    assert (second.order_number, second.payments) == ("2", [])


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    line = {"sku": "TEA", "quantity": 2, "unit_price": 1.50, "taxes": VAT}
    given = order(lines=[line], payments=[{"reference": "ch", "captured": "5"}], order_number=1)
    of_json = records(read(tmp_path / "a.jsonl", json.dumps(given)))
    of_csv = records(read(tmp_path / "a.csv", f"{HEADER}\n{row('1', '19', '', 'ch', '5')}\n"))
    assert of_json == of_csv


def test_compressed_files_are_told_by_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "orders"
    path.write_bytes(gzip.compress(f"{HEADER}\n{row('1')}\n".encode()))
    (source,) = inspect_files([path], DIRECT)
    assert (source.is_json, source.orders, source.rows) == (False, 1, 1)


def test_a_row_of_another_width_rejects_both_orders_that_it_may_belong_to(tmp_path: Path) -> None:
    text = "\n".join([HEADER, row("1"), row("2"), "acme,2,cut", row("3"), row("4")])
    raws = read(tmp_path / "a.csv", text)
    assert [(raw.key[1], raw.reason) for raw in raws] == [
        ("1", ""),
        ("2", "wrong_column_count"),
        ("3", "wrong_column_count"),
        ("4", ""),
    ]
    assert sum(len(raw.rows) for raw in raws) == 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{HEADER},line.unit_prise\n", "columns that the format does not know: line.unit_prise"),
        (f"{HEADER},line.sku\n", "more than one column for line.sku"),
        (f"{HEADER}\n", "holds no orders"),
        ("", "is empty"),
        ("[{}]", "one JSON list"),
        (f"{HEADER}\n{row('1', sku=chr(34) + 'TEA')}\n{row('2')}\n", "a quote opens"),
    ],
)
def test_a_file_that_nobody_can_be_sure_of_is_refused_as_a_whole(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=r"File .*a\.csv") as refused:
        read(tmp_path / "a.csv", text)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not_json"),
        ("[" * 100_000, "not_json"),
        ('{"total": 1e9999999999999999999}', "not_json"),
        ('{"order_number": "\\ud800"}', "not_json"),
        ('{"order_number": "1", "x": 1}', "field_unknown"),
        ('{"order_number": "1", "lines": [1]}', "field_not_readable"),
        (json.dumps(order(placed_at="yesterday")), "moment_not_readable"),
    ],
)
def test_a_line_of_json_that_is_no_order_says_why(tmp_path: Path, text: str, reason: str) -> None:
    raws = read(tmp_path / "a.jsonl", f"{json.dumps(order(order_number='2'))}\n{text}\n")
    assert [raw.reason for raw in raws] == ["", reason]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("lines", [{"sku": "A"}], "field_missing"),
        ("total", "ten", "field_not_readable"),
        ("format_version", 2, "field"),
    ],
)
def test_a_field_of_another_type_says_where(tmp_path: Path, field: str, value: object, reason: str) -> None:
    (raw,) = read(tmp_path / "a.jsonl", json.dumps(order(**{field: value})))
    with pytest.raises(RejectedError) as rejected:
        order_of(raw.document)
    assert rejected.value.reason.startswith(reason)
    assert field in rejected.value.detail


def test_rows_that_contradict_each_other_are_rejected_with_both_values(tmp_path: Path) -> None:
    (raw,) = read(tmp_path / "a.csv", f"{HEADER}\n{row('1')}\n{row('1').replace('EUR', 'USD')}\n")
    assert (raw.reason, raw.detail) == ("rows_contradict_each_other", "currency is 'EUR' and 'USD'")


def test_the_example_of_a_shops_own_export_is_read_by_its_mapping() -> None:
    mapping = read_mapping(EXAMPLES / "shop.toml")
    first, second, third = records(list(read_orders(inspect_files([EXAMPLES / "export.csv"], mapping), mapping)))
    assert [(line.kind, str(line.unit_price)) for line in first.lines] == [
        ("goods", "8.95"),
        ("goods", "9.00"),
        ("shipping", "4.90"),
    ]
    assert first.placed_at.isoformat() == "2026-01-05T09:12:00+00:00"
    assert (second.customer_id, second.payments[0].method) == (None, "paypal")
    assert str(third.refunds[0].amount) == "8.95"


def test_a_mapping_names_lists_and_dotted_ways_in_json(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(
        'format_version = 1\nignored = ["note"]\n[constants]\nmerchant_id = "acme"\n[columns]\nlines = "items"\n'
        'customer_id = "customer.id"\n"line.sku" = "article"\ntotal = "sum"\n"payment.captured" = "sum"\n'
    )
    given = {name: value for name, value in order(note="x", sum="5").items() if name not in ("lines", "merchant_id")}
    given |= {"items": [{"article": 7, "unit_price": "5"}], "customer": {"id": 12}}
    given["payments"] = [{"reference": "ch", "sum": "5"}]
    (record,) = records(read(tmp_path / "a.jsonl", json.dumps(given), read_mapping(path)))
    assert (record.merchant_id, record.customer_id, record.lines[0].sku) == ("acme", "12", "7")
    assert (str(record.total), str(record.payments[0].captured)) == ("5", "5")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "format_version"),
        ("format_version = 2", "format_version"),
        ('format_version = 1\n[columns]\n"line.price" = "P"', "'line.price'"),
        ('format_version = 1\ntime_zone = "Nowhere"', "time_zone"),
        ("format_version = 1\nrounding_allowance = 2", "rounding_allowance"),
        ("format_version = 1\nseperator = ';'", "seperator"),
    ],
)
def test_a_wrong_mapping_is_refused_by_name(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="Mapping") as refused:
        read_mapping(path)
    assert sentence in str(refused.value)


def test_copies_and_contradictions_are_told_before_anything_is_booked(tmp_path: Path) -> None:
    texts = [
        json.dumps(order(order_number=number, total=total)) for number, total in zip("12123", "abacd", strict=True)
    ]
    twice = Twice()
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(texts))
    sources = inspect_files([path], DIRECT, twice.see)
    raws = list(read_orders(sources, DIRECT))
    assert [twice.is_copy(raw) for raw in raws] == [False, False, True, False, False]
    with pytest.raises(RejectedError, match="order_stands_twice_with_other_content"):
        twice.check(raws[1])
    assert twice.merchants == {"acme": 5}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rejected_orders_can_be_mended_and_read_again(tmp_path: Path, suffix: str) -> None:
    texts = {
        "csv": f"{HEADER}\n{row('1')}\n{row('1', sku='CUP')}\n",
        "jsonl": json.dumps(order(payments=[paid("3")])) + "\n",
    }
    raws = read(tmp_path / f"a.{suffix}", texts[suffix])
    sources = inspect_files([tmp_path / f"a.{suffix}"], DIRECT)
    with RejectsFiles(tmp_path / "var", sources, ",") as rejects:
        rejects.add(raws[0], "amount_differs", 'total is "1"')
    path = Path(rejects.written[0])
    again = list(read_orders(inspect_files([path], DIRECT), DIRECT))
    assert "amount_differs" in path.read_text()
    assert [raw.document for raw in again] == [raw.document for raw in raws]
    # A second time, as when it was mended badly.
    with RejectsFiles(tmp_path / "var2", inspect_files([path], DIRECT), ",") as rejects:
        rejects.add(again[0], "amount_differs", "still")
    once_more = list(read_orders(inspect_files([Path(rejects.written[0])], DIRECT), DIRECT))
    assert order_of(once_more[0].document) == order_of(raws[0].document)
    assert msgspec.json.encode(once_more[0].key) == msgspec.json.encode(raws[0].key)
