from __future__ import annotations

import pytest

from contracts.events.adjustment import AdjustmentKind
from contracts.events.order import LineKind
from traffic.retail.rules import InvoiceType, Treatment, classify, invoice_type, product_code

PRICE = 2_550_000


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("536365", InvoiceType.SALE),
        ("C536379", InvoiceType.CREDIT_NOTE),
        ("c536379", InvoiceType.CREDIT_NOTE),
        ("A563185", InvoiceType.BAD_DEBT),
        ("X1", InvoiceType.UNKNOWN),
        ("C", InvoiceType.UNKNOWN),
        ("12a", InvoiceType.UNKNOWN),
    ],
)
def test_an_invoice_number_says_what_the_invoice_is(number: str, expected: InvoiceType) -> None:
    assert invoice_type(number) is expected


@pytest.mark.parametrize(
    ("stock_code", "price_micro", "kind"),
    [
        ("85123A", PRICE, LineKind.GOODS),
        ("85123a", 0, LineKind.GOODS),
        ("DCGS0003", PRICE, LineKind.GOODS),
        ("PADS", 1_000, LineKind.GOODS),
        ("POST", PRICE, LineKind.SHIPPING),
        ("DOT", 0, LineKind.SHIPPING),
        ("C2", PRICE, LineKind.SHIPPING),
        ("M", PRICE, LineKind.SERVICE),
        ("m", PRICE, LineKind.SERVICE),
        ("S", PRICE, LineKind.SERVICE),
        ("gift_0001_20", PRICE, LineKind.SERVICE),
    ],
)
def test_positive_rows_of_a_sale_are_order_lines(stock_code: str, price_micro: int, kind: LineKind) -> None:
    rule = classify("536365", stock_code, 3, price_micro)
    assert (rule.treatment, rule.line_kind) == (Treatment.ORDER_LINE, kind)


@pytest.mark.parametrize(
    ("invoice", "stock_code", "quantity", "price_micro", "kind"),
    [
        ("A563185", "B", 1, 11_062_060_000, AdjustmentKind.BAD_DEBT),
        ("A563186", "B", 1, -11_062_060_000, AdjustmentKind.BAD_DEBT),
        ("536365", "B", 1, PRICE, AdjustmentKind.BAD_DEBT),
        ("537600", "AMAZONFEE", 1, PRICE, AdjustmentKind.FEE),
        ("C537600", "AMAZONFEE", -1, PRICE, AdjustmentKind.FEE),
        ("C537600", "BANK CHARGES", -1, PRICE, AdjustmentKind.FEE),
        ("C537600", "CRUK", -1, PRICE, AdjustmentKind.FEE),
        ("C537600", "D", -1, PRICE, AdjustmentKind.DISCOUNT),
        ("536365", "85123A", 1, -PRICE, AdjustmentKind.MANUAL),
        ("C536365", "85123A", -1, -PRICE, AdjustmentKind.MANUAL),
    ],
)
def test_money_that_belongs_to_no_order_is_adjusted(
    invoice: str, stock_code: str, quantity: int, price_micro: int, kind: AdjustmentKind
) -> None:
    rule = classify(invoice, stock_code, quantity, price_micro)
    assert (rule.treatment, rule.adjustment_kind) == (Treatment.ADJUSTMENT, kind)


@pytest.mark.parametrize(
    ("stock_code", "kind"),
    [("85123A", LineKind.GOODS), ("POST", LineKind.SHIPPING), ("M", LineKind.SERVICE), ("S", LineKind.SERVICE)],
)
def test_negative_rows_of_a_credit_note_are_returns(stock_code: str, kind: LineKind) -> None:
    rule = classify("C536379", stock_code, -2, PRICE)
    assert (rule.treatment, rule.line_kind) == (Treatment.RETURN, kind)


def test_units_without_money_move_stock_only() -> None:
    assert classify("536589", "21777", -10, 0).treatment is Treatment.WRITE_OFF
    assert classify("C536589", "21777", -10, 0).treatment is Treatment.STOCK_RETURN


@pytest.mark.parametrize(
    ("invoice", "stock_code", "quantity", "price_micro", "reason"),
    [
        ("X1", "85123A", 1, PRICE, "unknown_invoice_type"),
        ("536365", "85123A", 0, PRICE, "quantity_is_zero"),
        ("C536365", "85123A", 1, PRICE, "positive_quantity_on_credit_note"),
        ("536365", "85123A", -1, PRICE, "negative_quantity_outside_credit_note"),
        ("536365", "POST", -1, 0, "write_off_of_a_service"),
        ("C536365", "M", -1, 0, "credit_without_amount"),
        ("C536365", "D", -1, 0, "adjustment_without_amount"),
        ("A563185", "B", 1, 0, "adjustment_without_amount"),
    ],
)
def test_what_fits_no_rule_is_rejected_with_its_reason(
    invoice: str, stock_code: str, quantity: int, price_micro: int, reason: str
) -> None:
    rule = classify(invoice, stock_code, quantity, price_micro)
    assert (rule.treatment, rule.reason) == (Treatment.REJECTED, reason)


def test_spellings_name_one_product() -> None:
    assert product_code("85123a") == product_code("85123A") == "85123A"
