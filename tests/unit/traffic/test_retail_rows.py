from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contracts import limits
from traffic.retail import rows
from traffic.retail.dates import DateOrder
from traffic.retail.files import Record
from traffic.retail.rows import Rejection, Row, fields_of, merchant_of, parse_record

GOOD = ["536365", "85123A", "HOLDER ", "6", "2010-12-01 08:26:00", "2.55", "17850.0", "United Kingdom"]


def with_field(index: int, text: str) -> list[str]:
    return [*GOOD[:index], text, *GOOD[index + 1 :]]


def parsed(fields: list[str], order: DateOrder = DateOrder.ISO) -> Row | Rejection:
    return parse_record(2, Record(line=7, lines=1, fields=fields), order)


def test_a_good_record_becomes_a_row() -> None:
    row = parsed(GOOD)
    assert row == Row(
        file=2,
        line=7,
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
        (with_field(5, "Infinity"), "price_not_a_number", 0),
        (with_field(5, "1e3"), "price_not_a_number", 0),
        (with_field(5, "1,234.50"), "price_not_a_number", 0),
        (with_field(5, "1 234.50"), "price_not_a_number", 0),
        (with_field(5, "\u00a32.55"), "price_not_a_number", 0),
        (with_field(5, "\u0661.5"), "price_not_a_number", 0),
        (with_field(5, "-" + "9" * 400), "price_not_a_number", 0),
        (with_field(3, "1e3"), "quantity_not_a_whole_number", 0),
        (with_field(3, "6.0"), "quantity_not_a_whole_number", 0),
        (with_field(3, "1,000"), "quantity_not_a_whole_number", 0),
        (with_field(3, "9" * 400), "quantity_not_a_whole_number", 0),
        (with_field(3, "\u0661"), "quantity_not_a_whole_number", 0),
        (with_field(4, "31/02/2011 08:26"), "date_not_readable", 15_300_000),
        (with_field(4, "02/12/11 08:26"), "date_not_readable", 15_300_000),
        (with_field(4, "1969-12-31 08:26"), "date_not_readable", 15_300_000),
        (with_field(4, "2010-12-01 24:00"), "date_not_readable", 15_300_000),
        (with_field(4, "2010-12-01 08:26:00+01:00"), "date_not_readable", 15_300_000),
        (with_field(4, "2010-12/01 08:26"), "date_not_readable", 15_300_000),
        (with_field(4, "02/12/2011 08:26"), "date_not_readable", 15_300_000),
        (with_field(0, "53\x1b6365"), "unprintable_character", 15_300_000),
        (with_field(1, "85\u202e123A"), "unprintable_character", 15_300_000),
        (with_field(6, "178\n50"), "unprintable_character", 15_300_000),
        (with_field(7, "United\x07 Kingdom"), "unprintable_character", 15_300_000),
        (with_field(5, ""), "price_not_a_number", 0),
        (with_field(5, "0.0000001"), "price_has_more_than_six_decimals", 0),
        (with_field(5, "999999999999"), "amount_out_of_range", 0),
        (with_field(7, "  "), "missing_country", 15_300_000),
        (with_field(0, "5" * 101), "invoice_number_has_more_than_100_characters", 15_300_000),
        (with_field(1, "5" * 101), "stock_code_has_more_than_100_characters", 15_300_000),
        (with_field(2, "5" * 501), "description_has_more_than_500_characters", 15_300_000),
        (with_field(6, "5" * 3_000), "customer_id_has_more_than_100_characters", 15_300_000),
        (with_field(7, "a" * 101), "country_has_more_than_100_characters", 15_300_000),
        (with_field(7, "\ufb03" * 60), "country_has_more_than_100_characters", 15_300_000),
        (with_field(2, "a\0b"), "unprintable_character", 15_300_000),
    ],
)
def test_an_unreadable_record_says_why(record: list[str], reason: str, amount_micro: int) -> None:
    rejection = parsed(record)
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.amount_micro) == (reason, amount_micro)
    assert rejection.fields == tuple(record)


@pytest.mark.parametrize(
    ("index", "text", "field", "value"),
    [
        (4, "05/05/2011 8:26", "invoiced_at", datetime(2011, 5, 5, 8, 26, tzinfo=UTC)),
        (4, "2010-12-01 08:26", "invoiced_at", datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        (4, "2010-12-01T08:26:00", "invoiced_at", datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        (4, "2010-12-01", "invoiced_at", datetime(2010, 12, 1, tzinfo=UTC)),
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
    assert getattr(parsed(with_field(index, text)), field) == value


def test_what_a_row_may_hold_is_within_what_commands_take() -> None:
    key = "online-retail/" + "x" * rows.INVOICE_CHARACTERS_MAX + "/refund/" + "0" * 36 + "/complete"
    product = "online-retail/product/" + "x" * rows.STOCK_CODE_CHARACTERS_MAX + "/" + "0" * 16
    assert max(len(key), len(product)) <= limits.IDEMPOTENCY_KEY.longest
    assert min(limits.ORDER_NUMBER.longest, limits.REFERENCE.longest) >= rows.INVOICE_CHARACTERS_MAX
    assert limits.SKU.longest >= rows.STOCK_CODE_CHARACTERS_MAX
    assert limits.CUSTOMER_ID.longest >= rows.CUSTOMER_CHARACTERS_MAX
    assert min(limits.MERCHANT_ID.longest, limits.TITLE.longest) >= rows.COUNTRY_CHARACTERS_MAX
    assert limits.TITLE.longest >= rows.DESCRIPTION_CHARACTERS_MAX
    assert limits.NOTE.longest >= rows.DESCRIPTION_CHARACTERS_MAX + rows.INVOICE_CHARACTERS_MAX + 2
    assert rows.AMOUNT_MICRO_MAX <= limits.AMOUNT_MICRO_MAX


def test_fields_of_a_row_are_those_of_its_file() -> None:
    row = parsed(GOOD)
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


@pytest.mark.parametrize(
    ("order", "moment"),
    [
        (DateOrder.DAY_FIRST, datetime(2011, 12, 2, 9, 30, tzinfo=UTC)),
        (DateOrder.MONTH_FIRST, datetime(2011, 2, 12, 9, 30, tzinfo=UTC)),
    ],
)
def test_a_date_is_read_in_the_order_of_its_file(order: DateOrder, moment: datetime) -> None:
    row = parsed(with_field(4, "02/12/2011 09:30"), order)
    assert isinstance(row, Row)
    assert row.invoiced_at == moment


@pytest.mark.parametrize(
    ("text", "description"),
    [(" TEA \r\n  SET\tRED ", "TEA SET RED"), ("TEA  SET\u00a0RED", "TEA  SET\u00a0RED")],
)
def test_a_description_becomes_one_line(text: str, description: str) -> None:
    row = parsed(with_field(2, text))
    assert isinstance(row, Row)
    assert row.description == description


def test_a_row_with_quotes_in_wrong_places_is_rejected() -> None:
    record = Record(line=7, lines=1, fields=GOOD, is_misquoted=True)
    rejection = parse_record(0, record, DateOrder.ISO)
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.line, rejection.amount_micro) == ("quote_in_the_wrong_place", 7, 15_300_000)
