"""What ends or goes back is told to the provider: once, whoever is faster, and with one outcome."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from contracts.errors import ConflictError, GatewayDeclinedError, GatewayError
from contracts.events.order import OrderState, OrderStatus
from contracts.events.payment import PaymentMethod, PaymentState, PaymentStatus
from oltp.commands.body import body_hash, field_hashes
from oltp.commands.expire_payment import PAYMENTS, ExpirePayment
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.commands.release_payment import ReleasePayment
from oltp.commands.return_payment import ReturnPayment
from oltp.commands.void_payment import VoidPayment
from oltp.domain.notifications import NotificationKind, NotificationState
from oltp.expiry import expire_due
from oltp.settling import settle_provider_calls
from tests.integration.notifying_provider import Notifying
from tests.integration.shop import MERCHANT, Shop
from tests.integration.test_pending_payments import awaiting, days_later, money, receive, said, stock_up
from tests.integration.test_provider_calls import AT_ONCE, die_in
from tests.integration.test_provider_notifications import Run, deliver, gateway, provider, try_again

__all__ = ["gateway", "provider"]
"""Fixtures."""

APPLIED, PENDING, PARKED = NotificationState.APPLIED, NotificationState.PENDING, NotificationState.PARKED


def present(shop: Shop, payment: PaymentState) -> PaymentState:
    state: PaymentState = shop.present(PaymentState, payment.payment_id)
    return state


def status_of_order(shop: Shop, payment: PaymentState) -> OrderStatus:
    order: OrderState = shop.present(OrderState, payment.order_id)
    return order.status


def unallocated(shop: Shop, provider: Notifying, receipt: str) -> PaymentState:
    """A paid order, and 52 minor units more of a receipt."""
    payment = receive(shop, awaiting(shop, shop.place(("MUG", 2))), receipt, 1_250)
    provider.receipts[receipt] = payment.provider_reference
    return payment


def back(payment: PaymentState, receipt: str, *, asks: bool = True) -> GiveBackUnallocated:
    names: dict[str, Any] = {
        "merchant_id": MERCHANT,
        "payment_id": payment.payment_id,
        "provider_reference": receipt,
    }
    return GiveBackUnallocated(**names, reason="too much", asks_provider=asks)


def test_the_provider_lets_go_what_has_ended(shop: Shop, provider: Notifying) -> None:
    waits, in_part = (awaiting(shop, shop.place(("MUG", 2))) for _ in range(2))
    receive(shop, in_part, "rcpt_1", 500)
    with pytest.raises(ConflictError, match="no waiting whose time is over"):
        shop.do(ExpirePayment(merchant_id=MERCHANT, payment_id=waits.payment_id))
    assert provider.set_aside[waits.provider_reference] == 1_198
    assert expire_due(days_later(shop, 7).pod, kinds=[PAYMENTS], limit=1) == 2
    assert provider.set_aside[waits.provider_reference] == provider.set_aside[in_part.provider_reference] == 0
    assert (present(shop, waits).status, status_of_order(shop, waits)) == (PaymentStatus.VOIDED, OrderStatus.CANCELLED)
    after = present(shop, in_part)
    assert (after.released_minor, money(after), after.expires_at) == (698, (500, 0, 0), None)
    assert status_of_order(shop, in_part) is OrderStatus.PLACED
    assert [deliver(shop, one).state for one in provider.written] == [APPLIED] * len(provider.written)
    assert present(shop, in_part) == after and shop.query("select kind from oltp.provider_calls") == []
    shop.assert_identities()


def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_key(shop: Shop, provider: Notifying) -> None:
    payment, other = (awaiting(shop, shop.place(("MUG", 1))) for _ in range(2))
    later = days_later(shop, 8)

    def lost() -> None:
        raise GatewayError("No answer.")

    provider.before_answer = lost
    assert expire_due(later.pod, kinds=[PAYMENTS]) == 0
    assert present(shop, payment) == payment and status_of_order(shop, payment) is OrderStatus.PLACED
    assert shop.query("select kind, payment_id::text from oltp.provider_calls") == [("void", payment.payment_id)]
    provider.before_answer = lambda: None
    assert expire_due(later.pod, kinds=[PAYMENTS]) == 2
    assert {present(shop, one).status for one in (payment, other)} == {PaymentStatus.VOIDED}
    assert len([one for one in provider.written if one.type == NotificationKind.AUTHORIZATION_VOIDED]) == 2


def test_a_provider_that_has_the_money_refuses_and_it_is_waited_for(shop: Shop, provider: Notifying) -> None:
    comes, never = (awaiting(shop, shop.place(("MUG", 2))) for _ in range(2))
    provider.kept = {comes.provider_reference, never.provider_reference}
    later = days_later(shop, 7)
    assert expire_due(later.pod, kinds=[PAYMENTS]) == 0
    assert {status_of_order(shop, one) for one in (comes, never)} == {OrderStatus.PLACED}
    received = said(
        provider, NotificationKind.PAYMENT_RECEIVED, comes, reference="r", amount_minor=1_198, currency="GBP"
    )
    assert deliver(shop, received).state is APPLIED
    assert (present(shop, comes).status, money(present(shop, comes))) == (PaymentStatus.CAPTURED, (1_198, 0, 0))
    # What does not come within a day ends, whatever the provider says.
    assert expire_due(later.pod, kinds=[PAYMENTS]) == 0
    assert expire_due(days_later(shop, 8).pod, kinds=[PAYMENTS]) == 1
    assert (present(shop, never).status, status_of_order(shop, never)) == (PaymentStatus.VOIDED, OrderStatus.CANCELLED)
    assert shop.query("select kind from oltp.provider_calls") == []


@pytest.mark.parametrize(("amount", "captured", "released"), [(1_198, 1_198, 0), (100, 100, 1_098), (1_300, 1_198, 0)])
def test_money_that_comes_while_the_provider_is_asked_keeps_its_order(
    shop: Shop, provider: Notifying, amount: int, captured: int, released: int
) -> None:
    payment = awaiting(shop, shop.place(("MUG", 2)))
    came = said(
        provider, NotificationKind.PAYMENT_RECEIVED, payment, reference="r", amount_minor=amount, currency="GBP"
    )

    def meanwhile() -> None:
        provider.before_answer = lambda: None
        assert deliver(shop, came).state is APPLIED

    provider.before_answer = meanwhile
    expire_due(days_later(shop, 7).pod, kinds=[PAYMENTS])
    after = present(shop, payment)
    assert (money(after), after.released_minor, after.expires_at) == ((captured, amount - captured, 0), released, None)
    assert status_of_order(shop, payment) is OrderStatus.PLACED
    for one in provider.written:
        assert deliver(shop, one).state is APPLIED
    assert present(shop, payment) == after
    shop.assert_identities()


@pytest.mark.parametrize("command", [ExpirePayment, VoidPayment, ReleasePayment])
def test_a_bank_that_does_not_pay_while_the_provider_is_asked_ends_the_order(
    shop: Shop, provider: Notifying, command: type[ExpirePayment | VoidPayment | ReleasePayment]
) -> None:
    """Letting go what is waited for pays nothing, so the order does not wait for the answer."""
    payment = awaiting(shop, shop.place(("MUG", 2)), PaymentMethod.DIRECT_DEBIT)
    failed = said(provider, NotificationKind.PAYMENT_FAILED, payment, reason="no cover")

    def meanwhile() -> None:
        provider.before_answer = lambda: None
        assert deliver(shop, failed).state is APPLIED

    provider.before_answer = meanwhile
    days_later(shop, 30).do(command(merchant_id=MERCHANT, payment_id=payment.payment_id))
    assert present(shop, payment).status is PaymentStatus.FAILED
    assert status_of_order(shop, payment) is OrderStatus.CANCELLED and shop.stock("MUG") == (100, 0)
    assert shop.query("select kind from oltp.provider_calls") == []
    shop.assert_identities()


AROUND = ("client", "crash", "inside", "notify", "newest_first")


@pytest.mark.in_turn("interleavings of expiry and giving back", seconds=20)
def test_every_order_of_asking_dying_and_being_told_has_one_outcome(shop: Shop, provider: Notifying) -> None:
    """Of the command, its crash, the notification within, after and backwards, and the worker that settles."""
    stock_up(shop)
    later = days_later(shop, 8)
    for number, steps in enumerate(itertools.permutations(AROUND, 3)):
        receipt = f"rcpt_{number}"
        ends, gives = awaiting(shop, shop.place(("MUG", 2))), unallocated(shop, provider, receipt)
        ending = Run(
            shop=later,
            provider=provider,
            command=ExpirePayment(merchant_id=MERCHANT, payment_id=ends.payment_id),
        )
        giving = Run(shop=later, provider=provider, command=back(gives, receipt))
        for step in steps:
            getattr(ending, step)()
            getattr(giving, step)()
        settle_provider_calls(later.pod, left_after=AT_ONCE)
        ending.notify()
        try_again(later)
        is_asked = bool({"client", "crash", "inside"} & set(steps))
        assert is_asked
        ended, given = present(shop, ends), present(shop, gives)
        assert (ended.status, ended.version) == (PaymentStatus.VOIDED, 2), steps
        assert status_of_order(shop, ends) is OrderStatus.CANCELLED
        assert (money(given), provider.sent_back[receipt]) == ((1_198, 0, 0), 52), steps
        assert [one.amount_minor for one in given.movements if one.kind == "given_back"] == [52]
        provider.written.clear()
    assert shop.query("select kind from oltp.provider_calls") == []
    assert shop.query("select distinct state from oltp.provider_notifications") == [("applied",)]
    shop.assert_identities()


def test_the_provider_sends_back_what_nothing_waited_for_once(shop: Shop, provider: Notifying) -> None:
    payment = unallocated(shop, provider, "rcpt_1")
    given = shop.do(back(payment, "rcpt_1"), "back")
    assert shop.do(back(payment, "rcpt_1"), "back") == given
    assert (money(given), provider.sent_back) == ((1_198, 0, 0), {"rcpt_1": 52})
    with pytest.raises(ConflictError, match="nothing of receipt rcpt_1 is unallocated"):
        shop.do(back(payment, "rcpt_1"))
    provider.unsendable = {"rcpt_2"}
    refused = unallocated(shop, provider, "rcpt_2")
    with pytest.raises(GatewayDeclinedError, match="account is closed"):
        shop.do(back(refused, "rcpt_2"))
    assert present(shop, refused) == refused
    assert [deliver(shop, one).state for one in provider.written] == [APPLIED] * len(provider.written)
    assert present(shop, refused) == refused, "it is unallocated as before"
    by_hand = shop.do(back(refused, "rcpt_2", asks=False))
    assert (by_hand.unallocated_minor, provider.sent_back) == (0, {"rcpt_1": 52})
    shop.assert_identities()


def test_nothing_else_becomes_of_a_receipt_while_the_provider_is_asked(shop: Shop, provider: Notifying) -> None:
    payment = unallocated(shop, provider, "rcpt_1")
    die_in(shop, provider, back(payment, "rcpt_1"), "died")
    names = {"merchant_id": MERCHANT, "payment_id": payment.payment_id, "provider_reference": "rcpt_1"}
    for other in (
        back(payment, "rcpt_1"),
        back(payment, "rcpt_1", asks=False),
        ReturnPayment(**names, fee_minor=0, reason="objected"),
    ):
        with pytest.raises(ConflictError, match="being asked to give back"):
            shop.do(other)
    returned = said(
        provider, NotificationKind.PAYMENT_RETURNED, payment, reference="rcpt_1", amount_minor=1_250, currency="GBP"
    )
    assert deliver(shop, returned).state is PENDING
    assert settle_provider_calls(shop.pod, left_after=AT_ONCE).settled == 1
    assert (present(shop, payment).unallocated_minor, provider.sent_back) == (0, {"rcpt_1": 52})
    try_again(shop)
    (state,) = shop.query("select state, reason from oltp.provider_notifications")
    assert state[0] == PARKED and "went back already" in state[1], "the customer has it twice: for a person"
    shop.assert_identities()


def test_the_provider_may_send_it_back_without_being_asked(shop: Shop, provider: Notifying) -> None:
    payment = awaiting(shop, shop.place(("MUG", 2)))
    says: dict[str, Any] = {"reference": "rcpt_1", "currency": "GBP"}
    given = said(provider, NotificationKind.PAYMENT_GIVEN_BACK, payment, amount_minor=52, reason="too much", **says)
    assert deliver(shop, given).state is PENDING, "the receipt is not known yet"
    assert deliver(shop, said(provider, NotificationKind.PAYMENT_RECEIVED, payment, amount_minor=1_250, **says)).state
    try_again(shop)
    after = present(shop, payment)
    assert money(after) == (1_198, 0, 0)
    again = said(provider, NotificationKind.PAYMENT_GIVEN_BACK, payment, amount_minor=52, **says)
    assert deliver(shop, again).state is APPLIED
    other = said(provider, NotificationKind.PAYMENT_GIVEN_BACK, payment, amount_minor=51, **says)
    assert deliver(shop, other).state is PARKED
    not_given = said(provider, NotificationKind.PAYMENT_NOT_GIVEN_BACK, payment, **says)
    assert deliver(shop, not_given).state is PARKED
    assert present(shop, payment) == after


def test_a_command_from_before_means_that_it_was_sent_already() -> None:
    """The hash of a stored command does not change with the new field, nor does its meaning."""
    command = GiveBackUnallocated(
        merchant_id="m1",
        payment_id="01970000-0000-7000-8000-000000000000",
        provider_reference="rcpt_1",
        reason="too much",
    )
    assert not command.asks_provider and "asks_provider" not in field_hashes(command)
    assert body_hash(command) == "3b78d4d7e3aca0177ea9d48462c269056566aadad5729e7e2b4d915dc4d71176"
