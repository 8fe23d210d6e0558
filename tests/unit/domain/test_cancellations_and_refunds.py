"""Cancellations, captures and refunds in any split and any order: the parts sum to the line, never to more."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import (
    ConflictError,
    IllegalTransitionError,
    InputError,
    NotFoundError,
    OverCaptureError,
    OverRefundError,
)
from contracts.events.order import LineKind, OrderLine, OrderStatus
from contracts.events.payment import PaymentStatus
from contracts.events.refund import RefundStatus
from oltp.domain.orders import (
    cancel_order,
    fulfill_order,
    open_quantity,
    owed_minor,
    to_ship_quantity,
    withdraw_refunded,
)
from oltp.domain.payments import (
    amount_to_authorize,
    amount_to_capture,
    authorize_payment,
    refund_payment,
    release_payment,
    take_back_refund,
    void_payment,
)
from oltp.domain.refunds import (
    NOTHING_REFUNDED,
    LineRefunds,
    RefundRequest,
    complete_refund,
    fail_refund,
    refund_amounts,
    request_refund,
    reverse_refund,
)
from tests.unit.domain.builders import NOW, captured, merchant, placed, unpriced
from tests.unit.domain.test_pricing import assert_identities


@dataclass
class Ledger:
    """What has been refunded of one line, refund by refund."""

    parts: list[tuple[int, int, int]] = field(default_factory=list)

    def total(self) -> LineRefunds:
        """The sum of the live parts."""
        return LineRefunds(
            quantity=sum(part[0] for part in self.parts),
            amount_minor=sum(part[1] for part in self.parts),
            tax_minor=sum(part[2] for part in self.parts),
            restocked_quantity=0,
        )


def one_line_order(quantity: int, total_hint_micro: int, rate_ppm: int, is_inclusive: bool):
    seller = merchant(is_tax_inclusive=is_inclusive, rate_ppm=rate_ppm)
    return placed(seller, [unpriced(1, quantity, total_hint_micro)])


ORDERS = st.builds(
    one_line_order,
    st.integers(1, 40),
    st.one_of(st.integers(0, 30_000), st.integers(0, 20_000_000)),
    st.integers(0, 1_200_000),
    st.booleans(),
)
STEPS = st.lists(st.tuples(st.sampled_from(["cancel", "refund"]), st.integers(1, 9)), max_size=30)


@settings(max_examples=200)
@given(ORDERS, STEPS)
def test_any_mix_of_cancellations_and_refunds_sums_to_the_line_exactly(order, steps):
    ledger = Ledger()
    for step, wanted in [*steps, ("refund", 10**6)]:
        line: OrderLine = order.lines[0]
        refunds = ledger.total()
        left = line.quantity - line.cancelled_quantity - refunds.quantity
        quantity = min(wanted, left)
        if quantity == 0:
            continue
        if step == "cancel":
            try:
                order = cancel_order(order, {line.order_line_id: quantity}, refunds={line.order_line_id: refunds})
            except ConflictError:
                # Only where a unit's tax is fractions of a penny: the rest would hold more tax than amount.
                assert line.total_minor < 2 * line.quantity
                continue
            assert_identities(order, refunds.quantity)
        else:
            amount, tax = refund_amounts(line, refunds, quantity)
            assert 0 <= tax <= amount
            ledger.parts.append((quantity, amount, tax))
    line, refunds = order.lines[0], ledger.total()
    assert line.cancelled_quantity + refunds.quantity == line.quantity
    assert line.cancelled_minor + refunds.amount_minor == line.total_minor
    assert line.cancelled_tax_minor + refunds.tax_minor == line.tax_minor


@settings(max_examples=200)
@given(ORDERS, st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.integers(0, 100)), max_size=30))
def test_failed_refunds_leave_everything_refundable_exactly(order, steps):
    line, ledger = order.lines[0], Ledger()
    for wanted, fails, which in steps:
        left = line.quantity - ledger.total().quantity
        if fails and ledger.parts:
            del ledger.parts[which % len(ledger.parts)]
        elif left:
            quantity = min(wanted, left)
            ledger.parts.append((quantity, *refund_amounts(line, ledger.total(), quantity)))
        assert 0 <= ledger.total().amount_minor <= line.total_minor
        assert 0 <= ledger.total().tax_minor <= line.tax_minor
        assert all(0 <= tax <= amount for _, amount, tax in ledger.parts)
    left = line.quantity - ledger.total().quantity
    if left:
        ledger.parts.append((left, *refund_amounts(line, ledger.total(), left)))
    assert ledger.total().amount_minor == line.total_minor
    assert ledger.total().tax_minor == line.tax_minor


@settings(max_examples=100)
@given(ORDERS, st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(1, 900))), max_size=12))
def test_named_amounts_leave_everything_refundable_exactly(order, steps):
    line, ledger = order.lines[0], Ledger()
    for wanted, amount_minor in steps:
        # The last unit is kept, to take whatever is left.
        quantity = min(wanted, line.quantity - ledger.total().quantity - 1)
        if amount_minor is not None:
            amount_minor = min(amount_minor, line.total_minor - ledger.total().amount_minor)
        if amount_minor == 0 or (amount_minor is None and quantity == 0):
            continue
        amount, tax = refund_amounts(line, ledger.total(), quantity, amount_minor)
        assert 0 <= tax <= amount and amount_minor in (None, amount)
        ledger.parts.append((quantity, amount, tax))
    left = line.quantity - ledger.total().quantity
    amount, tax = refund_amounts(line, ledger.total(), left)
    assert 0 <= tax <= amount
    ledger.parts.append((left, amount, tax))
    assert (ledger.total().amount_minor, ledger.total().tax_minor) == (line.total_minor, line.tax_minor)


def test_a_named_amount_stays_within_the_line():
    order = one_line_order(1, 1_000_000, 200_000, False)
    line = order.lines[0]
    assert refund_amounts(line, NOTHING_REFUNDED, 0, 60) == (60, 10)
    with pytest.raises(OverRefundError, match=f"{line.total_minor + 1} asked for"):
        refund_amounts(line, NOTHING_REFUNDED, 1, line.total_minor + 1)
    with pytest.raises(OverRefundError, match=r": 1\.21 GBP asked for, 1\.20 GBP can be refunded"):
        refund_amounts(line, NOTHING_REFUNDED, 1, 121, currency="GBP")
    for quantity, amount_minor in ((1, 0), (-1, 5)):
        with pytest.raises(InputError):
            refund_amounts(line, NOTHING_REFUNDED, quantity, amount_minor)
    paid_back = LineRefunds(quantity=0, amount_minor=60, tax_minor=10, restocked_quantity=0)
    with pytest.raises(ConflictError, match="money was given back"):
        cancel_order(order, None, captured_minor=60, refunds={"line-1": paid_back})


def test_the_last_units_cancelled_leave_no_penny():
    order = one_line_order(3, 333_333, 0, False)
    kept = LineRefunds(quantity=1, amount_minor=32, tax_minor=0, restocked_quantity=0)
    after = cancel_order(order, {"line-1": 2}, refunds={"line-1": kept})
    assert after.cancelled_minor + kept.amount_minor == order.total_minor


def test_a_unit_is_never_both_cancelled_and_refunded():
    order = one_line_order(3, 1_000_000, 0, False)
    refunded = LineRefunds(quantity=2, amount_minor=200, tax_minor=0, restocked_quantity=0)
    with pytest.raises(ConflictError, match="cannot be cancelled as well"):
        cancel_order(order, {"line-1": 2}, refunds={"line-1": refunded})
    with pytest.raises(OverRefundError, match="1 can still be refunded"):
        refund_amounts(order.lines[0], refunded, 2)
    with pytest.raises(InputError):
        refund_amounts(order.lines[0], NOTHING_REFUNDED, 0)


def test_what_is_captured_is_not_cancelled():
    order = one_line_order(4, 1_000_000, 0, False)
    after = cancel_order(order, {"line-1": 1}, captured_minor=300)
    assert owed_minor(after) == 300
    with pytest.raises(ConflictError, match="refund instead"):
        cancel_order(order, {"line-1": 2}, captured_minor=300)


def test_an_order_goes_through_its_states():
    order = placed(merchant(), [unpriced(1, 2, 1_000_000), unpriced(2, 1, 500_000)], shipping_micro=3_000_000)
    order, shipped = fulfill_order(order, {"line-1": 1})
    assert shipped == {"line-1": 1, "line-shipping": 1}
    assert order.status is OrderStatus.PARTIALLY_FULFILLED
    order = cancel_order(order, {"line-2": 1})
    assert order.status is OrderStatus.PARTIALLY_FULFILLED
    order, shipped = fulfill_order(order, None)
    assert (order.status, shipped, order.version) == (OrderStatus.FULFILLED, {"line-1": 1}, 4)
    for step in (cancel_order, fulfill_order):
        with pytest.raises(IllegalTransitionError):
            step(order, None)


def test_shipping_is_cancelled_with_the_last_thing_to_ship():
    order = placed(merchant(), [unpriced(1, 1, 1_000_000), unpriced(2, 1, 500_000)], shipping_micro=3_000_000)
    order = cancel_order(order, {"line-1": 1})
    assert order.status is OrderStatus.PLACED
    assert open_quantity(order.lines[2]) == 1
    order = cancel_order(order, {"line-2": 1})
    assert order.status is OrderStatus.CANCELLED
    assert owed_minor(order) == 0


@pytest.mark.parametrize(
    ("quantities", "error"),
    [({"line-1": 0}, InputError), ({"line-1": 3}, ConflictError), ({"nope": 1}, NotFoundError), ({}, ConflictError)],
)
@pytest.mark.parametrize("step", [cancel_order, fulfill_order])
def test_only_open_units_are_closed(step, quantities, error):
    with pytest.raises(error):
        step(one_line_order(2, 1_000_000, 0, False), quantities)


def test_capture_stops_at_the_authorization_and_at_what_is_owed():
    order = one_line_order(4, 1_000_000, 0, False)
    payment = captured(order, 100)
    assert amount_to_capture(payment, order, 100, None) == 300
    assert amount_to_capture(payment, order, 100, 120) == 120
    part_cancelled = cancel_order(order, {"line-1": 2}, captured_minor=100)
    assert amount_to_capture(payment, part_cancelled, 100, None) == 100
    with pytest.raises(OverCaptureError):
        amount_to_capture(payment, order, 100, 301)
    with pytest.raises(OverCaptureError):
        amount_to_capture(payment, part_cancelled, 100, 101)
    with pytest.raises(OverCaptureError):
        amount_to_capture(captured(order), order, 400, None)
    with pytest.raises(InputError):
        amount_to_capture(payment, order, 100, 0)


def test_a_free_order_has_no_payment():
    with pytest.raises(ConflictError, match="nothing open to pay"):
        amount_to_authorize(one_line_order(1, 1_000, 0, False), [], None)


def test_authorizations_cover_the_order_once():
    order = one_line_order(4, 1_000_000, 0, False)
    payment = captured(order, 100)
    with pytest.raises(ConflictError, match="nothing open"):
        amount_to_authorize(order, [payment], None)
    assert amount_to_authorize(order, [void_payment(captured(order, 0))], None) == 400
    with pytest.raises(ConflictError, match="open to pay"):
        amount_to_authorize(order, [], 401)


def test_declined_and_voided_payments_are_final():
    order = one_line_order(1, 1_000_000, 0, False)
    declined = authorize_payment(
        order,
        payment_id="p",
        amount_minor=100,
        provider="embedded",
        provider_reference="",
        authorized_at=NOW,
        is_declined=True,
    )
    assert (declined.status, declined.authorized_minor) == (PaymentStatus.DECLINED, 0)
    for payment in (declined, void_payment(captured(order, 0))):
        for step in (
            void_payment,
            lambda payment: amount_to_capture(payment, order, 0, None),
            lambda payment: refund_payment(payment, 1),
        ):
            with pytest.raises(IllegalTransitionError):
                step(payment)
    with pytest.raises(IllegalTransitionError):
        void_payment(captured(order))


def request(order, payment, requests, line_refunds=None, pending_minor=0):
    return request_refund(
        order,
        payment,
        [
            RefundRequest(refund_line_id=f"r{index}", order_line_id=line_id, quantity=quantity, is_restocked=restocked)
            for index, (line_id, quantity, restocked) in enumerate(requests)
        ],
        refund_id="r",
        line_refunds=line_refunds or {},
        pending_minor=pending_minor,
        reason="returned",
        external_reference=None,
        requested_at=NOW,
    )


def test_two_refund_lines_of_one_order_line_sum_to_it():
    order = one_line_order(3, 333_333, 0, False)
    refund = request(order, captured(order), [("line-1", 1, False), ("line-1", 2, False)])
    assert refund.amount_minor == order.total_minor == 100
    with pytest.raises(OverRefundError):
        request(order, captured(order), [("line-1", 2, False), ("line-1", 2, False)])


def test_a_refund_stays_within_what_the_payment_captured():
    order = one_line_order(4, 1_000_000, 0, False)
    payment = captured(order, 250)
    with pytest.raises(OverRefundError, match=r"2\.50"):
        request(order, payment, [("line-1", 3, False)])
    with pytest.raises(OverRefundError):
        request(order, payment, [("line-1", 2, False)], pending_minor=100)
    with pytest.raises(OverRefundError, match="nothing was captured"):
        request(order, captured(order, 0), [("line-1", 1, False)])
    with pytest.raises(OverRefundError):
        refund_payment(payment, 251)


def test_only_what_left_the_stock_is_restocked():
    order = one_line_order(3, 1_000_000, 0, False)
    payment = captured(order)
    with pytest.raises(ConflictError, match="0 left the stock"):
        request(order, payment, [("line-1", 1, True)])
    shipped, _ = fulfill_order(order, {"line-1": 1})
    assert request(shipped, payment, [("line-1", 1, True)]).lines[0].is_restocked
    with pytest.raises(ConflictError):
        request(shipped, payment, [("line-1", 1, True), ("line-1", 1, True)])
    service = placed(merchant(), [unpriced(1, 1, 1_000_000, kind=LineKind.SERVICE)])
    with pytest.raises(InputError, match="not stocked"):
        request(fulfill_order(service, None)[0], captured(service), [("line-1", 1, True)])


def test_a_refund_needs_known_lines():
    order = one_line_order(1, 1_000_000, 0, False)
    with pytest.raises(NotFoundError):
        request(order, captured(order), [("nope", 1, False)])
    with pytest.raises(InputError, match="at least one line"):
        request(order, captured(order), [])


def test_a_refund_is_settled_once():
    order = one_line_order(1, 1_000_000, 0, False)
    refund = request(order, captured(order), [("line-1", 1, False)])
    completed, failed = complete_refund(refund, "ref", NOW), fail_refund(refund, "account closed", NOW)
    assert (completed.status, failed.status) == (RefundStatus.COMPLETED, RefundStatus.FAILED)
    for settled in (completed, failed):
        with pytest.raises(IllegalTransitionError):
            complete_refund(settled, "ref", NOW)
        with pytest.raises(IllegalTransitionError):
            fail_refund(settled, "again", NOW)


def test_only_a_completed_refund_is_reversed_and_never_before_it_was_completed():
    order = one_line_order(1, 1_000_000, 0, False)
    refund = request(order, captured(order), [("line-1", 1, False)])
    completed = complete_refund(refund, "ref", NOW)
    failed = reverse_refund(completed, "account closed", NOW - timedelta(hours=1))
    assert (failed.status, failed.completed_at, failed.failed_at) == (RefundStatus.FAILED, NOW, NOW)
    paid = refund_payment(captured(order), refund.amount_minor)
    assert take_back_refund(paid, refund.amount_minor).refunded_minor == 0
    with pytest.raises(ConflictError, match="was refunded"):
        take_back_refund(captured(order), refund.amount_minor)
    for other in (refund, failed, fail_refund(refund, "not paid", NOW)):
        with pytest.raises(IllegalTransitionError, match="only a completed one"):
            reverse_refund(other, "again", NOW)
    with pytest.raises(ConflictError, match="onto a gift card"):
        reverse_refund(msgspec.structs.replace(completed, gift_card_id="card"), "again", NOW)


def test_units_that_came_back_with_a_reversed_refund_are_not_restocked_again():
    order = one_line_order(2, 1_000_000, 0, False)
    shipped = msgspec.structs.replace(order, lines=[msgspec.structs.replace(order.lines[0], fulfilled_quantity=2)])
    back = {"line-1": msgspec.structs.replace(NOTHING_REFUNDED, returned_quantity=1)}
    assert request(shipped, captured(order), [("line-1", 1, True)], line_refunds=back).amount_minor == 100
    assert request(shipped, captured(order), [("line-1", 2, False)], line_refunds=back).amount_minor == 200
    with pytest.raises(ConflictError, match="1 left the stock and are not back"):
        request(shipped, captured(order), [("line-1", 2, True)], line_refunds=back)


def refunded(*parts: tuple[int, int, int, bool]) -> LineRefunds:
    """What parts (units, amount, tax, whether the amount was named) come to."""
    return LineRefunds(
        quantity=sum(part[0] for part in parts),
        amount_minor=sum(part[1] for part in parts),
        tax_minor=sum(part[2] for part in parts),
        restocked_quantity=0,
        named_quantity=sum(part[0] for part in parts if part[3]),
        named_minor=sum(part[1] for part in parts if part[3]),
        named_tax_minor=sum(part[2] for part in parts if part[3]),
    )


@pytest.mark.parametrize("named_minor", [1, 1000, 2449, 2450, 2451])
def test_a_named_amount_does_not_change_what_other_units_cost(named_minor: int):
    line = one_line_order(3, 24_500_000, 0, False).lines[0]
    first = (1, named_minor, 0, True)
    second = (1, *refund_amounts(line, refunded(first), 1), False)
    last = refund_amounts(line, refunded(first, second), 1)
    assert second[1] == 2450
    # Never more than the line has left.
    assert last == (min(2450, 7350 - named_minor - 2450), 0)
    assert refund_amounts(line, refunded((1, 2450, 0, False)), 2) == (4900, 0)


def test_more_than_the_line_has_left_is_never_given_back():
    line = one_line_order(3, 24_500_000, 0, False).lines[0]
    assert refund_amounts(line, refunded((1, 7000, 0, True)), 1) == (350, 0)
    assert refund_amounts(line, refunded((0, 7350, 0, True)), 3) == (0, 0)


@pytest.mark.parametrize("is_inclusive", [False, True])
def test_the_tax_of_other_units_is_theirs_as_well(is_inclusive: bool):
    line = one_line_order(3, 24_500_000, 200_000, is_inclusive).lines[0]
    first = (1, *refund_amounts(line, NOTHING_REFUNDED, 1, 1000), True)
    assert refund_amounts(line, refunded(first), 1) == (line.total_minor // 3, round(line.tax_minor / 3))


def test_units_that_take_all_the_money_take_all_the_tax():
    line = one_line_order(2, 10_000_000, 200_000, False).lines[0]
    most = (0, *refund_amounts(line, NOTHING_REFUNDED, 0, 2300), True)
    assert refund_amounts(line, refunded(most), 1) == (100, line.tax_minor - most[2])


def test_a_named_amount_does_not_change_what_is_cancelled():
    order = one_line_order(3, 24_500_000, 0, False)
    refunds = {"line-1": refunded((1, 1000, 0, True))}
    after = cancel_order(order, {"line-1": 2}, captured_minor=2450, refunds=refunds)
    assert (after.cancelled_minor, owed_minor(after)) == (4900, 2450)
    step_by_step = cancel_order(order, {"line-1": 1}, refunds=refunds)
    assert cancel_order(step_by_step, {"line-1": 1}, refunds=refunds).cancelled_minor == 4900


MIXED = st.lists(
    st.tuples(
        st.sampled_from(["cancel", "refund", "name", "fail"]),
        st.integers(0, 6),
        st.integers(1, 900),
        st.integers(0, 99),
    ),
    max_size=25,
)


@settings(max_examples=300)
@given(ORDERS, MIXED)
def test_any_mix_with_named_amounts_and_failures_stays_within_the_line(order, steps):
    parts: list[tuple[int, int, int, bool]] = []
    has_failed = False
    for step, wanted, named_minor, which in steps:
        line, given_back = order.lines[0], refunded(*parts)
        quantity = min(wanted, line.quantity - line.cancelled_quantity - given_back.quantity)
        left = line.total_minor - line.cancelled_minor - given_back.amount_minor
        if step == "fail" and parts:
            del parts[which % len(parts)]
            has_failed = True
        elif step == "cancel" and quantity:
            try:
                order = cancel_order(order, {"line-1": quantity}, refunds={"line-1": given_back})
            except ConflictError:
                continue
        elif step == "name" and left > 0:
            amount_minor = min(named_minor, left)
            parts.append((quantity, *refund_amounts(line, given_back, quantity, amount_minor), True))
        elif step == "refund" and quantity:
            amount, tax = refund_amounts(line, given_back, quantity)
            # What the units cost, to the penny; with what a failed refund left over, if they are the last.
            assert has_failed or amount <= line.total_minor * quantity / line.quantity + 1
            parts.append((quantity, amount, tax, False))
        line, given_back = order.lines[0], refunded(*parts)
        amount_left = line.total_minor - line.cancelled_minor - given_back.amount_minor
        assert 0 <= line.tax_minor - line.cancelled_tax_minor - given_back.tax_minor <= amount_left
        assert all(0 <= tax <= amount for _, amount, tax, _ in parts)


def settled(quantity: int, amount_minor: int, restocked: int = 0) -> LineRefunds:
    """Completed refunds of a line."""
    return LineRefunds(
        quantity=quantity,
        amount_minor=amount_minor,
        tax_minor=0,
        restocked_quantity=restocked,
        settled_quantity=quantity - restocked,
    )


def test_units_refunded_before_they_ship_are_withdrawn_and_the_order_ends():
    order = one_line_order(2, 1_000_000, 0, False)
    after = withdraw_refunded(order, {"line-1": settled(1, 100)})
    assert after is not None and after.status is OrderStatus.PLACED
    assert (open_quantity(after.lines[0]), owed_minor(after)) == (1, 200)
    ended = withdraw_refunded(after, {"line-1": settled(2, 200)})
    assert ended is not None and (ended.status, open_quantity(ended.lines[0])) == (OrderStatus.CANCELLED, 0)
    assert (ended.cancelled_minor, ended.lines[0].withdrawn_quantity) == (0, 2)


def test_a_requested_refund_keeps_its_units_open_and_unshipped():
    order = one_line_order(2, 1_000_000, 0, False)
    requested = {"line-1": LineRefunds(quantity=1, amount_minor=100, tax_minor=0, restocked_quantity=0)}
    assert withdraw_refunded(order, requested) is None
    assert (open_quantity(order.lines[0]), to_ship_quantity(order.lines[0], requested["line-1"])) == (2, 1)
    after, shipped = fulfill_order(order, None, refunds=requested)
    assert (shipped, after.status) == ({"line-1": 1}, OrderStatus.PARTIALLY_FULFILLED)
    # It fails: the unit is shipped after all. It completes: nothing is left.
    assert fulfill_order(after, None)[0].status is OrderStatus.FULFILLED
    ended = withdraw_refunded(after, {"line-1": settled(1, 100)})
    assert ended is not None and ended.status is OrderStatus.FULFILLED


def test_units_that_came_back_withdraw_nothing():
    order, _ = fulfill_order(one_line_order(3, 1_000_000, 0, False), {"line-1": 1})
    assert withdraw_refunded(order, {"line-1": settled(1, 100, restocked=1)}) is None
    shipped, _ = fulfill_order(order, None)
    assert withdraw_refunded(shipped, {"line-1": settled(3, 300)}) is None


def with_shipping():
    return placed(merchant(rate_ppm=0), [unpriced(1, 1, 1_000_000), unpriced(2, 1, 500_000)], shipping_micro=3_000_000)


def test_shipping_without_anything_to_carry_is_never_shipped():
    order, refunds = with_shipping(), {"line-1": settled(1, 100), "line-2": settled(1, 50)}
    kept = withdraw_refunded(order, refunds, captured_minor=450)
    assert kept is not None and kept.status is OrderStatus.CANCELLED
    assert (kept.lines[2].withdrawn_quantity, kept.cancelled_minor) == (1, 0)
    unpaid = withdraw_refunded(order, refunds, captured_minor=150)
    assert unpaid is not None and (unpaid.status, owed_minor(unpaid)) == (OrderStatus.CANCELLED, 150)
    # An order from before units were withdrawn: it ends when it is cancelled, and ships nothing.
    assert cancel_order(order, None, captured_minor=450, refunds=refunds).status is OrderStatus.CANCELLED
    for quantities in (None, {"line-shipping": 1}):
        with pytest.raises(ConflictError, match="no open units"):
            fulfill_order(order, quantities, refunds=refunds)


def test_goods_refunded_in_part_and_cancelled_in_part_end_the_order():
    order = withdraw_refunded(with_shipping(), {"line-1": settled(1, 100)}, captured_minor=100)
    assert order is not None and open_quantity(order.lines[2]) == 1
    ended = cancel_order(order, {"line-2": 1}, captured_minor=100, refunds={"line-1": settled(1, 100)})
    assert (ended.status, owed_minor(ended)) == (OrderStatus.CANCELLED, 100)


def test_an_order_that_ends_owes_what_was_captured_and_no_more():
    refunds = {"line-1": settled(1, 40), "line-2": settled(1, 50)}
    ended = withdraw_refunded(with_shipping(), refunds, captured_minor=90)
    assert ended is not None and (ended.status, owed_minor(ended)) == (OrderStatus.CANCELLED, 90)
    assert [line.cancelled_minor for line in ended.lines] == [60, 0, 300]
    assert refund_amounts(ended.lines[0], NOTHING_REFUNDED, 1) == (40, 0)
    # Shipping was captured in part: only the rest of it is cancelled.
    shipped_in_part = withdraw_refunded(with_shipping(), refunds, captured_minor=200)
    assert shipped_in_part is not None and owed_minor(shipped_in_part) == 200
    # The last open unit is cancelled.
    order = withdraw_refunded(with_shipping(), {"line-1": settled(1, 40)}, captured_minor=40)
    assert order is not None and owed_minor(order) == 450
    ended = cancel_order(order, {"line-2": 1}, captured_minor=40, refunds={"line-1": settled(1, 40)})
    assert (ended.status, owed_minor(ended)) == (OrderStatus.CANCELLED, 40)


def test_shipping_that_was_refunded_is_not_rendered():
    order = withdraw_refunded(with_shipping(), {"line-shipping": settled(1, 300)}, captured_minor=450)
    assert order is not None and order.status is OrderStatus.PLACED
    assert fulfill_order(order, None)[1] == {"line-1": 1, "line-2": 1}
    refunds = {"line-shipping": settled(1, 300)}
    assert cancel_order(order, None, captured_minor=300, refunds=refunds).status is OrderStatus.CANCELLED


def test_what_the_provider_let_go_is_open_to_be_authorized_again():
    order = placed(merchant(rate_ppm=0), [unpriced(1, 1, 120_000_000)])
    payment = captured(order, 6000)
    with pytest.raises(ConflictError, match=r"60\.00 is captured and 60\.00 set aside; capture or release payment p1"):
        amount_to_authorize(order, [payment], None)
    released = release_payment(payment)
    assert (released.released_minor, released.captured_minor, released.status) == (6000, 6000, PaymentStatus.CAPTURED)
    assert amount_to_authorize(order, [released], None) == 6000
    with pytest.raises(OverCaptureError):
        amount_to_capture(released, order, 6000, 1)
    with pytest.raises(ConflictError, match="nothing set aside"):
        release_payment(released)
    assert refund_payment(released, 6000).refunded_minor == 6000
    with pytest.raises(ConflictError, match="needs no further payment"):
        amount_to_authorize(order, [captured(order)], None)


def test_an_authorization_that_captured_nothing_is_voided_by_its_release():
    assert release_payment(captured(one_line_order(1, 1_000_000, 0, False), 0)).status is PaymentStatus.VOIDED
