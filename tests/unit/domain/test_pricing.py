"""Pricing: every identity of an order's totals, for any lines."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InputError
from contracts.events.order import LineKind, OrderDiscount, OrderState
from contracts.money import PPM, micro_per_minor, round_half_away
from oltp.domain.pricing import price_order, shipping_fee_lines, shipping_line, totals_of
from tests.unit.domain.builders import merchant, placed, unpriced

PRICES = st.one_of(st.integers(0, 3_000), st.integers(0, 50_000_000))
"""Micro-units: sub-penny prices and ordinary ones."""
LINES = st.lists(st.tuples(st.integers(1, 200), PRICES, st.booleans()), min_size=1, max_size=12)


def assert_identities(order: OrderState, refunded_quantity: int = 0) -> None:
    """Every sentence of contracts/events/order.py about amounts; `refunded_quantity`: units of every line."""
    for line in order.lines:
        exact_micro = line.quantity * line.unit_price_micro
        assert line.amount_minor * micro_per_minor(order.currency) + line.rounding_micro == exact_micro
        assert 0 <= line.discount_minor <= line.amount_minor
        assert line.total_minor == line.amount_minor - line.discount_minor + (
            0 if line.is_tax_inclusive else line.tax_minor
        )
        assert line.taxable_minor == line.total_minor - line.tax_minor
        assert 0 <= line.cancelled_quantity + line.fulfilled_quantity + line.withdrawn_quantity <= line.quantity
        assert 0 <= line.cancelled_tax_minor <= line.cancelled_minor <= line.total_minor
        if line.cancelled_quantity + refunded_quantity < line.quantity or not refunded_quantity:
            assert line.cancelled_minor == round_half_away(line.total_minor * line.cancelled_quantity, line.quantity)
            assert line.cancelled_tax_minor == round_half_away(line.tax_minor * line.cancelled_quantity, line.quantity)
    for name, value in msgspec.structs.asdict(totals_of(order.lines)).items():
        assert getattr(order, name) == value, name
    assert order.discount_minor == sum(discount.amount_minor for discount in order.discounts)
    assert order.total_minor == (
        order.lines_minor - order.discount_minor + order.added_tax_minor + order.shipping_minor
    )


@given(LINES, st.booleans(), st.integers(0, 1_500_000), st.integers(0, 100), st.one_of(st.none(), PRICES))
def test_totals_satisfy_every_identity(lines, is_tax_inclusive, rate_ppm, discount_percent, shipping_micro):
    seller = merchant(is_tax_inclusive=is_tax_inclusive, rate_ppm=rate_ppm)
    unpriced_lines = [
        unpriced(number, quantity, price, kind=LineKind.SERVICE if is_service else LineKind.GOODS)
        for number, (quantity, price, is_service) in enumerate(lines)
    ]
    goods_minor = placed(seller, unpriced_lines).lines_minor
    order = placed(seller, unpriced_lines, goods_minor * discount_percent // 100, shipping_micro)
    assert_identities(order)
    assert [line.line_number for line in order.lines] == list(range(1, len(order.lines) + 1))
    assert all(line.discount_minor == 0 for line in order.lines if line.kind is LineKind.SHIPPING)


def test_a_tenth_of_a_penny_is_charged_as_nothing_and_kept_as_rounding():
    (line,) = price_order(merchant(), [unpriced(1, 1, 1_000)])
    assert (line.amount_minor, line.rounding_micro, line.total_minor) == (0, 1_000, 0)
    (line,) = price_order(merchant(), [unpriced(1, 7, 1_000)])
    assert (line.amount_minor, line.rounding_micro) == (1, -3_000)


def test_tax_added_and_tax_contained():
    (added,) = price_order(merchant(), [unpriced(1, 1, 10_000_000)])
    assert (added.taxable_minor, added.tax_minor, added.total_minor) == (1000, 200, 1200)
    (contained,) = price_order(merchant(is_tax_inclusive=True), [unpriced(1, 1, 10_000_000)])
    assert (contained.taxable_minor, contained.tax_minor, contained.total_minor) == (833, 167, 1000)


def test_discount_is_shared_by_largest_remainder_first_index_winning_ties():
    order = placed(merchant(), [unpriced(number, 1, 3_330_000) for number in range(3)], 100)
    assert [line.discount_minor for line in order.lines] == [34, 33, 33]


def test_discount_above_the_lines_is_refused():
    with pytest.raises(InputError, match=r"more than the goods"):
        placed(merchant(), [unpriced(1, 1, 1_000_000)], 101, shipping_micro=5_000_000)


def discount(amount_minor: int, line_number: int | None = None) -> OrderDiscount:
    return OrderDiscount(
        order_discount_id=f"d{line_number}", code="CODE", amount_minor=amount_minor, line_number=line_number
    )


def test_a_discount_on_the_toy_leaves_the_book_and_its_tax_alone():
    toy, book = unpriced(1, 1, 10_000_000), unpriced(2, 1, 10_000_000, tax_category="zero")
    lines = price_order(merchant(), [toy, book], [discount(500, 1)])
    assert [(line.discount_minor, line.tax_minor, line.total_minor) for line in lines] == [
        (500, 100, 600),
        (0, 0, 1000),
    ]
    assert totals_of(lines).total_minor == 1600


def test_the_other_discounts_are_shared_over_what_named_ones_leave():
    lines = price_order(
        merchant(), [unpriced(1, 1, 10_000_000), unpriced(2, 1, 10_000_000)], [discount(100), discount(1000, 1)]
    )
    assert [line.discount_minor for line in lines] == [1000, 100]


@pytest.mark.parametrize(
    ("discounts", "sentence"),
    [
        ([discount(1001, 1)], "Discount CODE: amount_minor is 10.01; line 1 allows at most 10.00."),
        ([discount(600, 1), discount(401, 1)], "Discount CODE: amount_minor is 4.01; line 1 allows at most 4.00."),
        ([discount(1, 2)], "Discount CODE: line_number is 2; it must be 1 to 1."),
        ([discount(0, 1)], "Discount CODE: amount_minor must be above 0."),
        ([discount(1000, 1), discount(1)], "The discounts are 10.01, more than the goods and services of 10.00."),
    ],
)
def test_a_discount_beyond_its_line_is_refused(discounts, sentence):
    shipping = shipping_line("s", 5_000_000, "merchant", None)
    with pytest.raises(InputError) as refused:
        price_order(merchant(), [unpriced(1, 1, 10_000_000), shipping], discounts)
    assert str(refused.value) == sentence


@given(LINES, st.data())
def test_a_named_discount_is_on_its_line_whole(lines, data):
    seller = merchant()
    unpriced_lines = [unpriced(number, quantity, price) for number, (quantity, price, _) in enumerate(lines)]
    amounts = [line.amount_minor for line in price_order(seller, unpriced_lines)]
    named = [data.draw(st.integers(0, amount)) for amount in amounts]
    shared = data.draw(st.integers(0, sum(amounts) - sum(named)))
    discounts = [discount(minor, number) for number, minor in enumerate(named, start=1) if minor]
    order = placed(seller, unpriced_lines, shared, further_discounts=discounts)
    assert_identities(order)
    assert all(line.discount_minor >= own for line, own in zip(order.lines, named, strict=True))


def test_an_undeclared_tax_category_is_refused_and_a_declared_zero_is_not():
    with pytest.raises(InputError, match="no tax rate"):
        price_order(merchant(), [unpriced(1, 1, 1_000_000, tax_category="unknown")])
    (line,) = price_order(merchant(), [unpriced(1, 1, 1_000_000, tax_category="zero")])
    assert (line.rate_ppm, line.tax_minor) == (0, 0)


@pytest.mark.parametrize(("quantity", "price"), [(0, 1), (-1, 1), (1, -1), (10**10, 10**9)])
def test_impossible_lines_are_refused(quantity, price):
    with pytest.raises(InputError):
        price_order(merchant(), [unpriced(1, quantity, price)])


def test_an_order_needs_a_line():
    with pytest.raises(InputError, match="at least one line"):
        price_order(merchant(), [])


@pytest.mark.parametrize(
    ("price_minor", "discount_minor", "is_free"), [(2_000, 0, True), (2_000, 1, False), (1_999, 0, False)]
)
def test_shipping_is_free_from_the_threshold_after_discount(price_minor, discount_minor, is_free):
    seller = merchant(fee_minor=495, free_from_minor=2_000)
    lines = shipping_fee_lines(seller, [unpriced(1, 1, price_minor * 10_000)], discount_minor, "s")
    assert bool(lines) is not is_free


def test_services_need_no_shipping():
    seller = merchant(fee_minor=495)
    assert shipping_fee_lines(seller, [unpriced(1, 1, 1_000_000, kind=LineKind.SERVICE)], 0, "s") == []
    (line,) = shipping_fee_lines(seller, [unpriced(1, 1, 1_000_000)], 0, "s")
    assert (line.kind, line.unit_price_micro, line.price_source) == (LineKind.SHIPPING, 4_950_000, "merchant")


def test_rates_are_parts_per_million():
    (line,) = price_order(merchant(rate_ppm=PPM // 40), [unpriced(1, 1, 10_000_000)])
    assert line.tax_minor == 25
