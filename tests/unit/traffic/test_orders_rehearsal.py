"""What books an order of a file, and why one cannot be booked."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from examples.shop_orders import orders
from oltp.commands.place_order import OrderLineInput, PlaceOrder, PriceOverride
from tests.unit.traffic.order_files import HEAD, LATER, LINES, QUEBEC, VAT, Json, order, paid, refund, rehearsed
from traffic.orders.documents import of_json, order_of
from traffic.orders.known import unregistered
from traffic.orders.mapping import DIRECT, RejectedError
from traffic.orders.order_commands import ROUNDING_SKU, UNALLOCATED_SKU
from traffic.orders.rehearsal import rehearse

CANCELLED = {"cancelled_at": "2026-01-05T11:00:00Z"}
ONE_TEA = [{"sku": "TEA", "quantity": 1}]
PAY = ["place", "authorize/1", "capture/1"]
BACK = ["refund/1", "complete/1"]


@pytest.mark.parametrize(
    ("given", "steps", "figures"),
    [
        pytest.param(order(), ["place"], (3987, 0, 0, 0), id="unpaid"),
        pytest.param(
            order(payments=[paid("39.87")], fulfillments=[{"shipped_at": LATER}], total="39.87", shipping=4.9),
            [*PAY, "fulfill/1"],
            (3987, 3987, 0, 0),
            id="paid and shipped",
        ),
        pytest.param(
            order(payments=[paid("30"), paid("9.87", "gift")]),
            ["place", "authorize/1", "authorize/2", "capture/1", "capture/2"],
            (3987, 3987, 0, 0),
            id="two payments",
        ),
        pytest.param(
            order(payments=[{"reference": "no", "is_declined": True}, paid("39.87")]),
            ["place", "authorize/1", "authorize/2", "capture/2"],
            (3987, 3987, 0, 0),
            id="declined first",
        ),
        pytest.param(
            order(
                payments=[{"reference": "a", "authorized": "39.87", "released_at": LATER}], cancellations=[CANCELLED]
            ),
            ["place", "authorize/1", "cancel/1", "release/1"],
            (3987, 0, 0, 0),
            id="cancelled before payment",
        ),
        pytest.param(
            order(payments=[paid("39.87")], cancellations=[CANCELLED], refunds=[refund(amount="39.87")]),
            [*PAY, *BACK],
            (3987, 3987, 3987, 0),
            id="cancelled after payment",
        ),
        pytest.param(
            order(
                payments=[paid("39.87")],
                cancellations=[{**CANCELLED, "lines": ONE_TEA}],
                refunds=[refund(amount="9.99")],
                fulfillments=[{"shipped_at": "2026-01-06T10:00:00Z"}],
            ),
            [*PAY, *BACK, "fulfill/1"],
            (3987, 3987, 999, 0),
            id="a part cancelled after payment",
        ),
        pytest.param(
            order(payments=[paid("39.87")], refunds=[refund(amount="5.01")]),
            [*PAY, *BACK],
            (3987, 3987, 501, 0),
            id="an amount given back",
        ),
        pytest.param(
            order(payments=[paid("45")], total="39.87", refunds=[refund(amount="5.13")]),
            [*PAY, *BACK],
            (4500, 4500, 513, 513),
            id="paid above, and that given back",
        ),
        pytest.param(
            order(payments=[paid("39.87", "a", captured_at=LATER, authorized="39.87"), paid("5")], total="39.87"),
            ["place", "authorize/1", "authorize/2", "capture/2", "capture/1"],
            (4487, 4487, 0, 500),
            id="paid twice in part",
        ),
        pytest.param(
            order(payments=[paid("30", gift_card="GC-7"), paid("9.87", "rest")], refunds=[refund(amount="5.01")]),
            ["place", "card/1", "redeem/1", "authorize/2", "capture/2", *BACK],
            (3987, 3987, 501, 0),
            id="paid with a gift card and the rest through a provider",
        ),
        pytest.param({**HEAD, "payments": [paid("45")]}, PAY, (4500, 4500, 0, 4500), id="no lines"),
    ],
)
def test_an_order_is_booked_by_these_steps(given: Json, steps: list[str], figures: tuple[int, ...]) -> None:
    plan = rehearsed(given)
    assert [step.name for step in plan.steps] == steps
    assert (plan.sold_minor, plan.captured_minor, plan.refunded_minor, plan.unallocated_minor) == figures


@pytest.mark.parametrize(
    ("given", "reason", "detail"),
    [
        (order(total="39.80"), "amount_differs", "total is 39.80 EUR in the file and 39.87 EUR by the books' rule"),
        (order(tax="6.00"), "amount_differs", "tax is 6.00 EUR in the file and 5.90 EUR"),
        (order(lines=[{**LINES[0], "tax": "4.78"}]), "amount_differs", "line 1: tax is 4.78 EUR in the file and 4.79"),
        (order(payments=[paid("39.87")], cancellations=[CANCELLED]), "cancelled_after_payment_without_refund", "4"),
        (order(payments=[paid("39.87", authorized="39.86")]), "captured_above_authorized", "ch_1"),
        (order(payments=[{"reference": "a", "authorized": "50"}]), "authorized_above_order", "39.87 EUR is open"),
        (
            order(payments=[{"reference": "a", "authorized": "39.87"}, paid("39.87")]),
            "authorized_above_order",
            "still set aside by another payment",
        ),
        (
            order(payments=[{"reference": "a", "authorized": "39.87"}, paid("44.87")], total="39.87"),
            "authorized_above_order",
            "still set aside by another payment",
        ),
        (order(payments=[paid("9"), paid("9")]), "reference_used_twice", "ch_1"),
        (order(refunds=[refund(amount="1")]), "refund_without_payment", "nothing was captured"),
        (order(payments=[paid("39.87")], refunds=[refund(amount="40")]), "refund_not_possible", "40.00 EUR"),
        (
            order(payments=[paid("39.87")], refunds=[refund(amount="9", lines=[{"line": 1, "quantity": 1}])]),
            "amount_differs",
            "9.00 EUR in the file, and its lines come to 9.99 EUR",
        ),
        (
            order(payments=[paid("39.87")], refunds=[refund(lines=[{"line": 1, "quantity": 1, "is_restocked": True}])]),
            "refund_not_possible",
            "left the stock",
        ),
        (order(fulfillments=[{"shipped_at": LATER, "lines": [{"line": 1, "quantity": 4}]}]), "fulfillment_not", "TEA"),
        (
            order(fulfillments=[{"shipped_at": LATER, "lines": [{"sku": "X", "quantity": 1}]}]),
            "line_not_known",
            "SKU X",
        ),
        (order(fulfillments=[{"shipped_at": "2026-01-01T00:00:00Z"}]), "before_the_order", "fulfillment 1"),
        (order(placed_at="2027-01-01T00:00:00Z"), "in_the_future", "2027"),
        (order(payments=[paid("39.88")]), "paid_above_order", "0.01 EUR more was captured"),
        (order(payments=[{"reference": "a"}]), "payment_without_amount", "payment a"),
        (order(jurisdiction="D\nE"), "beyond_a_limit", "jurisdiction"),
        (order(customer_id="a\0"), "beyond_a_limit", "customer_id"),
        (order(payments=[paid("40", gift_card="GC-7")]), "gift_card_above_order", "39.87 EUR is open"),
        (order(payments=[paid("40", gift_card="GC-7")], total="39.87"), "gift_card_above_order", "ch_1"),
        ({**HEAD, "payments": [paid("4", gift_card="GC-7")]}, "gift_card_above_order", "0.00 EUR is open"),
        (order(payments=[paid("3", gift_card="GC-7", authorized="4")]), "gift_card_is_taken_at_once", "ch_1"),
        (order(payments=[paid("3", gift_card="GC-7", released_at=LATER)]), "gift_card_is_taken_at_once", "released"),
        (order(payments=[paid("3", gift_card="G" * 256)]), "field_not_readable", "255"),
        (order(merchant_id="a/b"), "merchant_not_possible", "slash"),
        (order(currency="XYZ"), "merchant_not_possible", "XYZ"),
        (order(discounts=[{"amount": "40"}]), "order_not_possible", "40.00, more than the goods"),
        (order(lines=[{**LINES[0], "unit_price": "-1"}]), "amount_is_negative", "line 1: unit_price is -1"),
        (order(lines=[{**LINES[0], "unit_price": "0.0000001"}]), "price_too_fine", "6 decimals"),
        (order(total="39.871"), "amount_too_fine", "total is 39.871"),
        (order(total="1e30"), "number_out_of_range", "total"),
        (order(lines=[{"unit_price": 1}]), "sku_missing", "line 1"),
        (order(lines=[{**LINES[0], "sku": UNALLOCATED_SKU}]), "sku_reserved", "line 1"),
        (order(lines=[{**LINES[0], "sku": "a\u200bb"}]), "beyond_a_limit", "U+200B"),
        (order(lines=[{**LINES[0], "taxes": [*VAT, *VAT]}]), "taxes_not_possible_together", "twice"),
        ({**HEAD}, "order_without_lines", "payment that was captured"),
    ],
)
def test_an_order_that_cannot_be_booked_says_why(given: Json, reason: str, detail: str) -> None:
    with pytest.raises(RejectedError) as rejected:
        rehearsed(given)
    assert rejected.value.reason.startswith(reason)
    assert detail in rejected.value.detail


def test_several_taxes_on_top_are_each_rounded_and_kept() -> None:
    line = {"sku": "MUG", "quantity": 3, "unit_price": "12.35", "discount": "2.00", "taxes": QUEBEC, "tax": "5.25"}
    plan = rehearsed(order(is_tax_inclusive=False, lines=[line], total="40.30"))
    rates = [(rate.owed_to, rate.rate_ppm, rate.tax_category) for rate in plan.rates if rate.rate_ppm]
    assert rates == [("CA", 50_000, "CA 5 % + CA-QC 9.975 %"), ("CA-QC", 99_750, "CA 5 % + CA-QC 9.975 %")]
    assert plan.sold_minor == 4030


@pytest.mark.parametrize(("total", "sku", "is_adjusted"), [("39.88", ROUNDING_SKU, False), ("39.86", None, True)])
def test_a_total_within_the_allowance_is_booked_as_it_is_stated(total: str, sku: str | None, is_adjusted: bool) -> None:
    plan = rehearsed(order(total=total, payments=[paid(total)]), allowance="0.01")
    assert plan.sold_minor == plan.captured_minor == int(Decimal(total) * 100)
    assert plan.extras == ((sku,) if sku else ())
    assert ("rounding" in [step.name for step in plan.steps]) is is_adjusted


def test_what_was_paid_above_takes_no_part_in_the_discounts_of_the_order() -> None:
    discounts = [{"code": "A", "amount": "1.00"}, {"code": "B", "amount": "2.01", "line": 1}, {"amount": "0.07"}]
    plain = rehearsed(order(discounts=discounts, payments=[paid("36.79")]))
    above = rehearsed(order(discounts=discounts, payments=[paid("40.00")], total="36.79"))
    place: Any = above.steps[0].command
    assert (plain.sold_minor, plain.unallocated_minor) == (3679, 0)
    assert (above.sold_minor, above.unallocated_minor) == (4000, 321)
    assert place.lines[-1].sku == UNALLOCATED_SKU
    assert all(discount.line_number in (1, 2) for discount in place.discounts)


def test_every_order_of_the_example_comes_to_what_its_maker_says() -> None:
    plans = []
    for given in orders(400, seed=7):
        record = order_of(of_json(given, DIRECT))
        plan = rehearse(record, unregistered(record), Decimal(0), datetime(2027, 1, 1, tzinfo=UTC))
        plans.append((plan.sold_minor - plan.unallocated_minor, int(Decimal(given.get("total", "0")) * 100)))
    assert len(plans) == 400
    assert [pair for pair in plans if pair[0] != pair[1]] == []


def test_a_price_override_without_a_tax_of_its_own_asks_for_what_it_asked_before() -> None:
    price = PriceOverride(unit_price_micro=1, source="s", reason="r")
    line = OrderLineInput(sku="A", quantity=1, price_override=price)
    command = PlaceOrder(merchant_id="m", order_number="1", customer_id=None, location_id="l", lines=[line])
    assert b'"price_override":{"unit_price_micro":1,"source":"s","reason":"r"}' in msgspec.json.encode(command)
