"""A refund that fails after it had succeeded: recorded once, whatever comes first, and it may be refunded again."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from contracts.errors import ConflictError, IllegalTransitionError
from contracts.events.gift_card import GiftCardFunding
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundState, RefundStatus
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.reverse_refund import ReverseRefund
from oltp.domain.notifications import Notification, NotificationKind, NotificationState
from tests.integration.notifying_provider import Notifying
from tests.integration.shop import MERCHANT, Shop
from tests.integration.test_provider_notifications import deliver, gateway, provider, try_again

APPLIED, PARKED = NotificationState.APPLIED, NotificationState.PARKED

__all__ = ["gateway", "provider"]
"""Fixtures."""


def failing(provider: Notifying, refund: RefundState, **says: Any) -> Notification:
    """What the provider writes when the money of a refund came back to it."""
    key = f"{MERCHANT}/refund/{refund.refund_id}"
    return provider.write(NotificationKind.REFUND_FAILED, key, reason="The account is closed.", **says)


def reverse(refund: RefundState) -> ReverseRefund:
    return ReverseRefund(merchant_id=MERCHANT, refund_id=refund.refund_id, failure_reason="The account is closed.")


def test_success_and_failure_in_any_order_and_doubled_are_recorded_once(shop: Shop, provider: Notifying) -> None:
    """Both came after our own call, or before our own call was sent: the payment has nothing refunded at the end."""
    for is_asked, places in itertools.product((True, False), sorted(set(itertools.permutations((0, 1, 0, 1))))):
        order = shop.place(("MUG", 1))
        refund = shop.request_refund(shop.pay(order), (order.lines[0], 1))
        if is_asked:
            refund = shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))
        says: dict[str, Any] = {"amount_minor": refund.amount_minor, "currency": "GBP"}
        key = f"{MERCHANT}/refund/{refund.refund_id}"
        succeeded = provider.write(NotificationKind.REFUND_SUCCEEDED, key, reference="re_1", **says)
        said = [succeeded, failing(provider, refund)]
        for place in places:
            assert deliver(shop, said[place]).state is APPLIED
        try_again(shop)
        failed = shop.present(RefundState, refund.refund_id)
        payment = shop.present(PaymentState, refund.payment_id)
        was_paid = is_asked or places[0] == 0
        assert (failed.status, failed.failure_reason) == (RefundStatus.FAILED, "The account is closed.")
        assert failed.failed_at is not None and (failed.completed_at is not None) is was_paid
        assert failed.version == (3 if was_paid else 2) and payment.refunded_minor == 0
    shop.assert_identities()


def test_a_failure_that_comes_while_another_command_asks_is_not_lost(shop: Shop, provider: Notifying) -> None:
    """A second command asks for the same refund, and has no answer yet when the provider says that it failed."""
    order = shop.place(("MUG", 1))
    refund = shop.request_refund(shop.pay(order), (order.lines[0], 1))
    command = CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id)
    states: list[NotificationState] = []

    def first() -> None:
        provider.before_answer = lambda: None
        shop.do(command)
        states.append(deliver(shop, failing(provider, refund)).state)

    provider.before_answer = first
    shop.do(command)
    failed = shop.present(RefundState, refund.refund_id)
    assert states == [APPLIED] and failed.status is RefundStatus.FAILED and failed.completed_at is not None
    assert shop.present(PaymentState, refund.payment_id).refunded_minor == 0
    shop.assert_identities()


def test_what_came_back_may_be_refunded_again_and_goods_stay_where_they_are(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = shop.pay(order)
    shop.fulfill(order)
    refund = shop.refund(payment, (order.lines[0], 2), is_restocked=True)
    stock = shop.stock("MUG")
    failed = shop.do(reverse(refund), "again and again")
    assert shop.do(reverse(refund), "again and again") == failed
    assert shop.stock("MUG") == stock
    with pytest.raises(ConflictError, match="0 left the stock and are not back"):
        shop.request_refund(payment, (order.lines[0], 1), is_restocked=True)
    again = shop.refund(payment, (order.lines[0], 2))
    assert again.amount_minor == refund.amount_minor and shop.stock("MUG") == stock
    assert shop.present(PaymentState, payment.payment_id).refunded_minor == refund.amount_minor
    shop.assert_identities()


def test_withdrawn_units_stay_withdrawn_and_their_refund_may_be_paid_again(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = shop.pay(order)
    refund = shop.refund(payment, (order.lines[0], 1))
    shop.do(reverse(refund))
    shop.fulfill(order)
    again = shop.refund(payment, (order.lines[0], 1))
    (line,) = shop.present(type(order), order.order_id).lines
    assert (line.fulfilled_quantity, line.withdrawn_quantity, again.amount_minor) == (1, 1, refund.amount_minor)
    shop.assert_identities()


def test_what_contradicts_the_refund_changes_nothing(shop: Shop, provider: Notifying) -> None:
    order = shop.place(("MUG", 2))
    payment = shop.pay(order)
    requested = shop.request_refund(payment, (order.lines[0], 1))
    with pytest.raises(IllegalTransitionError, match="only a completed one"):
        shop.do(reverse(requested))
    refund = shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=requested.refund_id))
    card = shop.do(
        IssueGiftCard(
            merchant_id=MERCHANT, amount_minor=100, funding=GiftCardFunding.GRANTED, source="test", reason="a present"
        )
    )
    line = RefundLineInput(order_line_id=order.lines[0].order_line_id, quantity=1)
    onto = RequestRefund(
        merchant_id=MERCHANT,
        payment_id=payment.payment_id,
        lines=[line],
        reason="wants a card",
        gift_card_id=card.gift_card_id,
    )
    carried = shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=shop.do(onto).refund_id))
    with pytest.raises(ConflictError, match="onto a gift card"):
        shop.do(reverse(carried))
    before = shop.fold()
    for one, reason in (
        (failing(provider, refund, amount_minor=1, currency="GBP"), "says 1 minor unit of GBP"),
        (failing(provider, refund, currency="EUR"), "of EUR"),
        (failing(provider, carried), "onto a gift card, and the provider says that it failed"),
    ):
        settlement = deliver(shop, one)
        assert settlement.state is PARKED and reason in settlement.reason, settlement
    assert shop.fold() == before
    # By hand first, and then the provider says so, too: both messages of it, late.
    shop.do(reverse(refund))
    before = shop.fold()
    for one in (
        *[one for one in provider.written if one.type == NotificationKind.REFUND_SUCCEEDED],
        failing(provider, refund),
    ):
        assert deliver(shop, msgspec.structs.replace(one, id=f"{one.id}-late")).state is APPLIED
    assert shop.fold() == before
