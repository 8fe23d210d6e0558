"""Several taxes on one line: each rounded, their sum the line's tax, and given back to the last cent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConflictError, InputError, OverRefundError
from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.order import OrderState
from oltp.commands.register_merchant import ordered_rates
from oltp.domain.adjustments import adjustment_tax
from oltp.domain.orders import cancel_order
from oltp.domain.refunds import NOTHING_REFUNDED, LineRefunds, RefundRequest, request_refund
from oltp.domain.taxes import given_back
from tests.unit.domain.builders import NOW, captured, merchant, placed, unpriced

QUEBEC = (50_000, 99_750)
RATES = st.lists(st.integers(0, 300_000), min_size=1, max_size=4)


def seller_of(rates_ppm: Sequence[int], *, is_tax_inclusive: bool = False) -> MerchantState:
    taxes = [
        TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=rate_ppm, owed_to=f"T{number}")
        for number, rate_ppm in enumerate(rates_ppm)
    ]
    return msgspec.structs.replace(merchant(is_tax_inclusive=is_tax_inclusive), tax_rates=ordered_rates(taxes))


def test_quebec_rounds_each_of_its_taxes() -> None:
    order = placed(seller_of(QUEBEC), [unpriced(1, 1, 86_970_000)])
    assert [(tax.jurisdiction, tax.rate_ppm, tax.tax_minor) for tax in order.line_taxes] == [
        ("T0", 50_000, 435),
        ("T1", 99_750, 868),
    ]
    assert (order.lines[0].rate_ppm, order.lines[0].taxable_minor, order.lines[0].tax_minor) == (149_750, 8_697, 1_303)
    assert (order.tax_minor, order.total_minor) == (1_303, 10_000)


def test_a_price_that_contains_them_is_split_whole() -> None:
    order = placed(seller_of(QUEBEC, is_tax_inclusive=True), [unpriced(1, 1, 100_000_000)])
    assert (order.tax_minor, order.total_minor) == (1_302, 10_000)
    assert [tax.tax_minor for tax in order.line_taxes] == [435, 867]


def test_an_adjustment_contains_each_tax() -> None:
    inside = adjustment_tax(seller_of(QUEBEC), "standard", -10_000)
    assert (inside.tax_minor, inside.rate_ppm) == (-1_302, 149_750)
    assert [(tax.jurisdiction, tax.tax_minor) for tax in inside.taxes] == [("T0", -435), ("T1", -867)]


def test_one_tax_without_a_name_is_kept_with_its_line_alone() -> None:
    assert placed(merchant(), [unpriced(1, 1, 10_000_000)]).line_taxes == []
    assert adjustment_tax(merchant(), "standard", -100).taxes == []


def test_a_rate_without_a_name_has_the_body_that_it_had_before() -> None:
    rate = TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=1)
    assert msgspec.json.encode(rate) == b'{"jurisdiction":"GB","tax_category":"standard","rate_ppm":1}'


@pytest.mark.parametrize(
    ("taxes", "sentence"),
    [
        ([("", 1), ("", 2)], "given twice"),
        ([("A", 1), ("A", 2)], "given twice"),
        ([("", 1), ("A", 2)], "tax_rates: category 'standard' in GB has several taxes; each needs an owed_to"),
        ([("A", 9_000_000), ("B", 1_000_001)], "2 taxes of 10,000,001 parts per million together; it has at most 10"),
        ([(f"T{number}", 1) for number in range(11)], "has 11 taxes"),
    ],
)
def test_taxes_that_make_no_sense_are_refused(taxes: list[tuple[str, int]], sentence: str) -> None:
    rates = [
        TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=rate_ppm, owed_to=owed_to)
        for owed_to, rate_ppm in taxes
    ]
    with pytest.raises(InputError, match=sentence):
        ordered_rates(rates)


def test_no_more_is_given_back_than_is_left() -> None:
    taxes = placed(seller_of(QUEBEC), [unpriced(1, 1, 86_970_000)]).line_taxes
    assert given_back(1_303, taxes, {}) == [435, 868]
    assert given_back(868, taxes, {"T0": 435}) == [0, 868]
    with pytest.raises(ConflictError, match="than is left"):
        given_back(869, taxes, {"T0": 435})


@given(RATES, st.booleans(), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 90_000_000)), min_size=1, max_size=5))
def test_the_taxes_of_every_line_sum_to_its_tax(rates_ppm, is_tax_inclusive, lines) -> None:
    seller = seller_of(rates_ppm, is_tax_inclusive=is_tax_inclusive)
    order = placed(seller, [unpriced(number, *line) for number, line in enumerate(lines)])
    for line in order.lines:
        own = [tax for tax in order.line_taxes if tax.order_line_id == line.order_line_id]
        assert sum(tax.tax_minor for tax in own) == line.tax_minor
        assert sum(tax.rate_ppm for tax in own) == line.rate_ppm
        for tax in own:
            # At most a cent from exact, where the sum is kept; half of one, where each is rounded.
            slack = 3_000_000 + tax.rate_ppm if is_tax_inclusive else 1_000_000
            assert tax.tax_minor >= 0
            assert 2 * abs(tax.tax_minor * 1_000_000 - line.taxable_minor * tax.rate_ppm) <= slack


@given(
    RATES,
    st.booleans(),
    st.integers(1, 7),
    st.integers(0, 9_000_000),
    st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.one_of(st.none(), st.integers(1, 500))), max_size=6),
)
def test_whatever_is_cancelled_and_given_back_ends_at_zero(rates_ppm, is_inclusive, quantity, price, steps) -> None:
    order = placed(seller_of(rates_ppm, is_tax_inclusive=is_inclusive), [unpriced(1, quantity, price)])
    refunds: dict[str, LineRefunds] = {}
    for is_refund, units, amount_minor in [*steps, (True, None, None)]:
        try:
            if is_refund:
                refunds = _refunded(order, refunds, units, amount_minor)
            else:
                order = cancel_order(order, {"line-1": units}, refunds=refunds)
        except (ConflictError, InputError, OverRefundError):
            continue
        _assert_sums(order, refunds)
    line, back = order.lines[0], refunds.get("line-1", NOTHING_REFUNDED)
    if line.total_minor - line.cancelled_minor == back.amount_minor:
        for tax in order.line_taxes:
            assert tax.tax_minor == tax.cancelled_tax_minor + back.taxes.get(tax.jurisdiction, 0)
    else:
        # Only units without a named amount give back all that is left; these were taken before.
        assert back.named_quantity


def _refunded(
    order: OrderState, refunds: dict[str, LineRefunds], units: int | None, amount_minor: int | None
) -> dict[str, LineRefunds]:
    known = refunds.get("line-1", NOTHING_REFUNDED)
    line = order.lines[0]
    asked = line.quantity - line.cancelled_quantity - known.quantity if units is None else units
    refund = request_refund(
        order,
        msgspec.structs.replace(captured(placed(merchant(), [unpriced(1, 1, 10**12)])), order_id=order.order_id),
        [RefundRequest(
            refund_line_id="r", order_line_id="line-1", quantity=asked, is_restocked=False, amount_minor=amount_minor
        )],
        refund_id="r", line_refunds=refunds, pending_minor=0, reason="", external_reference=None, requested_at=NOW,
    )  # fmt: skip
    (given_line,) = refund.lines
    assert sum(tax.tax_minor for tax in refund.line_taxes) == given_line.tax_minor
    named = amount_minor is not None
    after = LineRefunds(
        quantity=known.quantity + asked,
        amount_minor=known.amount_minor + given_line.amount_minor,
        tax_minor=known.tax_minor + given_line.tax_minor,
        restocked_quantity=0,
        named_quantity=known.named_quantity + asked * named,
        named_minor=known.named_minor + given_line.amount_minor * named,
        named_tax_minor=known.named_tax_minor + given_line.tax_minor * named,
        taxes={tax.jurisdiction: known.taxes.get(tax.jurisdiction, 0) + tax.tax_minor for tax in refund.line_taxes},
    )
    return {"line-1": after}


def _assert_sums(order: OrderState, refunds: dict[str, LineRefunds]) -> None:
    line, back = order.lines[0], refunds.get("line-1", NOTHING_REFUNDED)
    assert sum(tax.cancelled_tax_minor for tax in order.line_taxes) == line.cancelled_tax_minor
    assert sum(back.taxes.values()) == back.tax_minor
    for tax in order.line_taxes:
        assert tax.cancelled_tax_minor >= 0
        assert 0 <= back.taxes.get(tax.jurisdiction, 0) <= tax.tax_minor - tax.cancelled_tax_minor
