from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.errors import InputError
from traffic.retail.rows import COLUMNS, Rejection, Row, check_files, fields_of, merchant_of, parse_record, read_rows

GOOD = ["536365", "85123A", "HOLDER ", "6", "2010-12-01 08:26:00", "2.55", "17850.0", "United Kingdom"]


def with_field(index: int, text: str) -> list[str]:
    return [*GOOD[:index], text, *GOOD[index + 1 :]]


def write(path: Path, *lines: str, header: str = ",".join(COLUMNS)) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_good_record_becomes_a_row() -> None:
    row = parse_record(2, 7, GOOD)
    assert row == Row(
        file=2,
        number=7,
        invoice="536365",
        stock_code="85123A",
        description="HOLDER",
        quantity=6,
        unit_price_micro=2_550_000,
        invoiced_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        customer_id="17850",
        merchant_id="united-kingdom",
        country="United Kingdom",
    )
    assert isinstance(row, Row)
    assert row.amount_micro == 15_300_000


@pytest.mark.parametrize(
    ("record", "reason", "amount_micro"),
    [
        (GOOD[:7], "wrong_column_count", 0),
        ([*GOOD, "more"], "wrong_column_count", 0),
        (with_field(0, " "), "missing_invoice_number", 15_300_000),
        (with_field(1, ""), "missing_stock_code", 15_300_000),
        (with_field(3, "six"), "quantity_not_a_whole_number", 0),
        (with_field(3, "6.5"), "quantity_not_a_whole_number", 0),
        (with_field(3, "1000000001"), "quantity_out_of_range", 0),
        (with_field(4, "yesterday"), "date_not_readable", 15_300_000),
        (with_field(4, "2010-13-01 08:26:00"), "date_not_readable", 15_300_000),
        (with_field(5, "2,55"), "price_not_a_number", 0),
        (with_field(5, "NaN"), "price_not_a_number", 0),
        (with_field(5, ""), "price_not_a_number", 0),
        (with_field(5, "0.0000001"), "price_has_more_than_six_decimals", 0),
        (with_field(5, "999999999999"), "amount_out_of_range", 0),
        (with_field(7, "  "), "missing_country", 15_300_000),
        (with_field(2, "a\0b"), "unprintable_character", 15_300_000),
    ],
)
def test_an_unreadable_record_says_why(record: list[str], reason: str, amount_micro: int) -> None:
    rejection = parse_record(0, 1, record)
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.amount_micro) == (reason, amount_micro)
    assert rejection.fields == tuple(record)


@pytest.mark.parametrize(
    ("index", "text", "field", "value"),
    [
        (4, "12/1/2010 8:26", "invoiced_at", datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        (4, "2010-12-01 08:26", "invoiced_at", datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        (5, "0.001", "unit_price_micro", 1_000),
        (5, "-11062.06", "unit_price_micro", -11_062_060_000),
        (5, ".5", "unit_price_micro", 500_000),
        (3, "-12", "quantity", -12),
        (6, "", "customer_id", None),
        (6, "17850", "customer_id", "17850"),
        (7, "Côte d'Ivoire", "merchant_id", "cote-d-ivoire"),
    ],
)
def test_forms_that_are_accepted(index: int, text: str, field: str, value: object) -> None:
    assert getattr(parse_record(0, 1, with_field(index, text)), field) == value


def test_fields_of_a_row_are_those_of_its_file() -> None:
    row = parse_record(0, 1, GOOD)
    assert isinstance(row, Row)
    assert fields_of(row) == (
        "536365",
        "85123A",
        "HOLDER",
        "6",
        "2010-12-01 08:26:00",
        "2.55",
        "17850",
        "United Kingdom",
    )


def test_merchants_are_slugs() -> None:
    assert merchant_of("United Kingdom") == "united-kingdom"
    assert merchant_of("EIRE") == "eire"
    assert merchant_of("--") == ""


def test_plain_gzip_and_latin1_files_are_read(tmp_path: Path) -> None:
    line = "1,gift_0001_10,Voucher £10.00,1,2010-12-01 08:26:00,8.33,,EIRE"
    plain = write(tmp_path / "plain.csv", line, "", line)
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    latin = tmp_path / "latin.csv"
    latin.write_bytes(plain.read_text().encode("latin-1"))
    marked = tmp_path / "marked.csv"
    marked.write_text("\ufeff" + plain.read_text())
    for path in (plain, packed, latin, marked):
        rows = [row for row in read_rows(path, 0) if isinstance(row, Row)]
        assert [row.description for row in rows] == ["Voucher £10.00"] * 2, path


def test_a_stray_quote_costs_records_but_not_the_file(tmp_path: Path) -> None:
    good = ",".join(GOOD)
    path = write(tmp_path / "a.csv", good, '536366,1,"never closed,' + "x" * 140_000, good)
    kinds = [type(item) for item in read_rows(path, 0)]
    assert kinds[0] is Row
    assert Rejection in kinds


@pytest.mark.parametrize("name", ["missing", "directory", "header", "empty", "truncated", "second"])
def test_a_file_that_cannot_be_read_stops_the_import_in_one_sentence(tmp_path: Path, name: str) -> None:
    good = write(tmp_path / "good.csv", ",".join(GOOD))
    path = tmp_path / name
    if name == "directory":
        path.mkdir()
    elif name in ("header", "second"):
        write(path, ",".join(GOOD), header="Invoice,Price")
    elif name == "empty":
        path.write_text("")
    elif name == "truncated":
        path.write_bytes(gzip.compress(good.read_bytes())[:-12])
    with pytest.raises(InputError) as caught:
        check_files([good, path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="No file was given"):
        check_files([])
