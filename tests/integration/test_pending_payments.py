"""Payments whose money comes later: captured when it is there, never lost and never double, whatever comes first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from contracts.errors import (
    ConflictError,
    GatewayDeclinedError,
    IllegalTransitionError,
    InputError,
    OverRefundError,
    TieoutError,
)
from contracts.events.order import OrderState, OrderStatus
from contracts.events.payment import PaymentMethod, PaymentState, PaymentStatus
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.expire_payment import PAYMENTS, ExpirePayment
from oltp.commands.fail_payment import FailPayment
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.commands.receive_payment import ReceivePayment
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.release_payment import ReleasePayment
from oltp.commands.return_payment import ReturnPayment
from oltp.commands.void_payment import VoidPayment
from oltp.domain.notifications import Notification, NotificationKind, NotificationState
from oltp.expiry import expire_due
from tests.integration.notifying_provider import Notifying
from tests.integration.shop import LOCATION, MERCHANT, NOW, Shop
from tests.integration.test_payment_and_refund_limits import give_all_back
from tests.integration.test_provider_notifications import deliver, gateway, provider, try_again

APPLIED, PENDING, PARKED = NotificationState.APPLIED, NotificationState.PENDING, NotificationState.PARKED
TRANSFER, DEBIT = PaymentMethod.BANK_TRANSFER, PaymentMethod.DIRECT_DEBIT

__all__ = ["gateway", "provider"]
"""Fixtures."""


def awaiting(shop: Shop, order: OrderState, method: PaymentMethod = TRANSFER, **options: Any) -> PaymentState:
    return shop.do(AwaitPayment(merchant_id=MERCHANT, order_id=order.order_id, method=method, **options))


def receive(shop: Shop, payment: PaymentState, reference: str, amount_minor: int) -> PaymentState:
    command = ReceivePayment(
        merchant_id=MERCHANT, payment_id=payment.payment_id, provider_reference=reference, amount_minor=amount_minor
    )
    return shop.do(command)


def days_later(shop: Shop, days: int) -> Shop:
    """The same shop, later."""
    return replace(shop, pod=replace(shop.pod, clock=lambda: NOW + timedelta(days=days)))


def said(provider: Notifying, kind: NotificationKind, payment: PaymentState, **says: Any) -> Notification:
    """What the provider writes of a payment."""
    return provider.write(kind, None, authorization_reference=payment.provider_reference, **says)


def money(payment: PaymentState) -> tuple[int, int, int]:
    return payment.captured_minor, payment.unallocated_minor, payment.returned_minor


def test_the_customer_is_told_and_nothing_is_captured_before_it_is_there(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = awaiting(shop, order)
    assert (payment.status, payment.authorized_minor, payment.captured_minor) == (PaymentStatus.PENDING, 1_198, 0)
    assert payment.pay_to is not None and payment.provider_reference.startswith("tran_")
    assert payment.expires_at == NOW + timedelta(days=7)
    assert shop.stock("MUG") == (100, 2), "its units stay reserved"
    with pytest.raises(ConflictError, match="captured when money comes"):
        shop.capture(payment)
    with pytest.raises(ConflictError, match="nothing open to authorize"):
        shop.authorize(order)
    with pytest.raises(ConflictError, match="waits for its payment"):
        shop.fulfill(order)
    paid = receive(shop, payment, "rcpt_1", 1_198)
    assert (paid.status, paid.expires_at, money(paid)) == (PaymentStatus.CAPTURED, None, (1_198, 0, 0))
    shop.fulfill(order)
    assert shop.refund(paid, (order.lines[0], 1)).amount_minor == 599
    shop.assert_identities()


def test_money_in_parts_too_little_too_much_and_after_the_end(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = awaiting(shop, order)
    part = receive(shop, payment, "rcpt_1", 500)
    assert (part.status, part.expires_at, money(part)) == (PaymentStatus.CAPTURED, payment.expires_at, (500, 0, 0))
    with pytest.raises(ConflictError, match="waits for its payment"):
        shop.fulfill(order)
    above = receive(shop, payment, "rcpt_2", 700)
    assert (above.expires_at, money(above)) == (None, (1_198, 2, 0))
    late = receive(shop, payment, "rcpt_3", 50)
    assert money(late) == (1_198, 52, 0)
    with pytest.raises(ConflictError, match="has the receipt rcpt_3 already"):
        receive(shop, payment, "rcpt_3", 50)
    back = GiveBackUnallocated(
        merchant_id=MERCHANT, payment_id=payment.payment_id, provider_reference="rcpt_3", reason="too much"
    )
    assert money(shop.do(back)) == (1_198, 2, 0)
    with pytest.raises(ConflictError, match="nothing of receipt rcpt_3 is unallocated"):
        shop.do(back)
    shop.assert_identities()


def test_what_never_comes_ends_with_its_order(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = awaiting(shop, order)
    assert expire_due(shop.pod, kinds=[PAYMENTS]) == 0
    later = days_later(shop, 7)
    assert (expire_due(later.pod, limit=1), expire_due(later.pod)) == (1, 0)
    ended = shop.present(PaymentState, payment.payment_id)
    assert (ended.status, ended.expires_at) == (PaymentStatus.VOIDED, None)
    assert shop.present(OrderState, order.order_id).status is OrderStatus.CANCELLED
    assert shop.stock("MUG") == (100, 0)
    # What comes all the same belongs to the customer.
    late = receive(later, payment, "rcpt_1", 1_198)
    assert (late.status, money(late)) == (PaymentStatus.VOIDED, (0, 1_198, 0))
    shop.assert_identities()


def test_a_part_that_came_keeps_the_order(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = receive(shop, awaiting(shop, order), "rcpt_1", 599)
    later = days_later(shop, 8)
    ended = later.do(ExpirePayment(merchant_id=MERCHANT, payment_id=payment.payment_id))
    assert (ended.status, ended.released_minor, money(ended)) == (PaymentStatus.CAPTURED, 599, (599, 0, 0))
    assert shop.present(OrderState, order.order_id).status is OrderStatus.PLACED
    shop.authorize(order, 599)
    assert money(receive(later, payment, "rcpt_2", 599)) == (599, 599, 0)
    shop.assert_identities()


def test_a_failed_debit_ends_its_order_unless_something_else_pays(shop: Shop) -> None:
    alone, beside = shop.place(("MUG", 1)), shop.place(("MUG", 2))
    shop.authorize(beside, 599)
    for order, status in ((alone, OrderStatus.CANCELLED), (beside, OrderStatus.PLACED)):
        payment = awaiting(shop, order, DEBIT)
        command = FailPayment(merchant_id=MERCHANT, payment_id=payment.payment_id, failure_reason="no cover")
        failed = shop.do(command, f"fail {order.order_id}")
        assert shop.do(command, f"fail {order.order_id}") == failed
        assert (failed.status, failed.failure_reason, failed.expires_at) == (PaymentStatus.FAILED, "no cover", None)
        assert shop.present(OrderState, order.order_id).status is status
        with pytest.raises(IllegalTransitionError, match="is failed; it cannot become failed"):
            shop.do(command)
    assert shop.stock("MUG") == (100, 2)
    shop.assert_identities()


def test_a_returned_debit_is_owed_again(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = receive(shop, awaiting(shop, order, DEBIT), "rcpt_1", 1_198)
    refund = shop.request_refund(payment, (order.lines[0], 1))
    back = ReturnPayment(
        merchant_id=MERCHANT,
        payment_id=payment.payment_id,
        provider_reference="rcpt_1",
        fee_minor=350,
        reason="objected",
    )
    returned = days_later(shop, 56).do(back)
    assert (returned.status, money(returned), returned.return_fee_minor) == (
        PaymentStatus.CAPTURED,
        (1_198, 0, 1_198),
        350,
    )
    with pytest.raises(ConflictError, match="went back already"):
        shop.do(back)
    with pytest.raises(OverRefundError, match="money twice"):
        shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))
    with pytest.raises(OverRefundError):
        shop.request_refund(returned, (order.lines[0], 1))
    with pytest.raises(ConflictError, match=r"took 11\.98 back"):
        shop.fulfill(order)
    again = shop.pay(order)
    assert again.captured_minor == 1_198
    shop.fulfill(order, (order.lines[0], 1))
    shop.assert_identities()


def test_the_merchant_says_how_long_and_whether_it_ships_before(shop: Shop) -> None:
    with pytest.raises(InputError, match="at most 60"):
        shop.do(ConfigureMerchant(merchant_id=MERCHANT, bank_transfer_days=61))
    shop.do(ConfigureMerchant(merchant_id=MERCHANT, bank_transfer_days=2, direct_debit_days=60, ships_before_paid=True))
    order = shop.place(("MUG", 2))
    transfer = awaiting(shop, order, amount_minor=599)
    debit = awaiting(shop, order, DEBIT)
    assert transfer.expires_at == NOW + timedelta(days=2)
    assert (debit.expires_at, debit.authorized_minor) == (NOW + timedelta(days=60), 599)
    shop.fulfill(order)
    assert expire_due(days_later(shop, 2).pod) == 1
    assert shop.present(OrderState, order.order_id).status is OrderStatus.FULFILLED, "it is shipped, and owed"
    shop.assert_identities()


def test_a_part_of_the_order_is_cancelled_while_its_money_is_waited_for(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = awaiting(shop, order)
    shop.cancel(order, (order.lines[0], 1))
    paid = receive(shop, payment, "rcpt_1", 1_198)
    assert (paid.expires_at, paid.released_minor, money(paid)) == (None, 599, (599, 599, 0))
    shop.assert_identities()


def test_an_order_that_is_paid_waits_for_no_more_money(shop: Shop) -> None:
    """A part came, and the rest of the order is cancelled: what is owed is there, so it ships."""
    order = shop.place(("MUG", 2))
    payment = receive(shop, awaiting(shop, order), "rcpt_1", 599)
    with pytest.raises(ConflictError, match="waits for its payment"):
        shop.fulfill(order, (order.lines[0], 1))
    shop.cancel(order, (order.lines[0], 1))
    shop.fulfill(order)
    assert shop.present(OrderState, order.order_id).status is OrderStatus.FULFILLED
    assert money(receive(shop, payment, "rcpt_2", 599)) == (599, 599, 0)
    shop.assert_identities()


def test_money_for_an_order_that_has_ended_is_unallocated(shop: Shop) -> None:
    """A part came, all of it was given back, and the rest comes all the same: nobody owes it, so it is not captured."""
    order = shop.place(("MUG", 2))
    payment = receive(shop, awaiting(shop, order), "rcpt_1", 500)
    give_all_back(shop, order, payment, 500)
    assert money(receive(shop, payment, "rcpt_2", 698)) == (500, 698, 0)
    shop.assert_identities()


def test_the_provider_says_it_in_any_order_and_twice(shop: Shop, provider: Notifying) -> None:
    """Received and returned, and the operator's own record beside them: one receipt, one return, one fee."""
    for places in sorted(set(itertools.permutations((0, 1, 0, 1)))):
        payment = awaiting(shop, shop.place(("PIN", 3)), DEBIT)
        amount = payment.authorized_minor
        says: dict[str, Any] = {"reference": "rcpt_1", "amount_minor": amount, "currency": "GBP"}
        both = [
            said(provider, NotificationKind.PAYMENT_RECEIVED, payment, **says),
            said(provider, NotificationKind.PAYMENT_RETURNED, payment, fee_minor=350, reason="objected", **says),
        ]
        for place in places:
            deliver(shop, both[place])
        try_again(shop)
        after = shop.present(PaymentState, payment.payment_id)
        assert (money(after), after.return_fee_minor, after.version) == ((amount, 0, amount), 350, 3)
        # Other ids, as when the provider sends them anew, and a person who records them by hand.
        for one in both:
            assert deliver(shop, msgspec.structs.replace(one, id=f"{one.id}-again")).state is APPLIED
        with pytest.raises(ConflictError, match="already"):
            receive(shop, payment, "rcpt_1", amount)
        assert shop.present(PaymentState, payment.payment_id) == after
    assert shop.query("select distinct state from oltp.provider_notifications") == [("applied",)]
    shop.assert_identities()


def test_a_fee_that_the_books_do_not_have_is_not_lost(shop: Shop, provider: Notifying) -> None:
    """A person has recorded the return without the provider's fee: its notification goes to a person."""
    payment = receive(shop, awaiting(shop, shop.place(("MUG", 2)), DEBIT), "rcpt_1", 1_198)
    by_hand = ReturnPayment(
        merchant_id=MERCHANT, payment_id=payment.payment_id, provider_reference="rcpt_1", reason="letter"
    )
    after = shop.do(by_hand)
    says: dict[str, Any] = {"reference": "rcpt_1", "amount_minor": 1_198, "currency": "GBP"}
    settlement = deliver(shop, said(provider, NotificationKind.PAYMENT_RETURNED, payment, fee_minor=350, **says))
    assert settlement.state is PARKED and "a fee of 0 minor units" in settlement.reason, settlement
    assert deliver(shop, said(provider, NotificationKind.PAYMENT_RETURNED, payment, **says)).state is APPLIED
    assert shop.present(PaymentState, payment.payment_id) == after


def test_what_contradicts_the_books_is_parked_and_changes_nothing(shop: Shop, provider: Notifying) -> None:
    payment = receive(shop, awaiting(shop, shop.place(("MUG", 2)), DEBIT), "rcpt_1", 1_198)
    card = shop.pay(shop.place(("MUG", 1)))
    before = shop.fold()
    says: dict[str, Any] = {"reference": "rcpt_1", "currency": "GBP"}
    received, returned = NotificationKind.PAYMENT_RECEIVED, NotificationKind.PAYMENT_RETURNED
    for one, reason in (
        (said(provider, received, payment, amount_minor=1, **says), "1,198 minor units of GBP are recorded"),
        (said(provider, received, payment, reference="r", amount_minor=1, currency="EUR"), "1 minor unit of EUR"),
        (said(provider, returned, payment, amount_minor=1, **says), "1,198 minor units of GBP are recorded"),
        (said(provider, NotificationKind.PAYMENT_FAILED, payment, reason="no cover"), "has money"),
        (said(provider, received, card, amount_minor=1, **says), "neither a bank transfer nor a direct debit"),
    ):
        settlement = deliver(shop, one)
        assert settlement.state is PARKED and reason in settlement.reason, settlement
    unknown = replace_reference(said(provider, received, payment, amount_minor=1, **says), "tran_unknown")
    assert deliver(shop, unknown).state is PENDING, "money that nothing here knows waits for a person"
    assert shop.fold() == before


@pytest.mark.parametrize("command", [VoidPayment, ReleasePayment])
def test_what_happens_while_the_provider_is_asked_to_let_it_go(
    shop: Shop, provider: Notifying, command: type[VoidPayment | ReleasePayment]
) -> None:
    """Money comes, or the time is over, before the provider has answered: the call ends, and the money is captured."""
    for amount, status, captured in (
        (599, PaymentStatus.CAPTURED, 599),
        (100, PaymentStatus.CAPTURED, 100),
        (None, PaymentStatus.VOIDED, 0),
    ):
        payment = awaiting(shop, shop.place(("MUG", 1)))

        def meanwhile(payment: PaymentState = payment, amount: int | None = amount) -> None:
            provider.before_answer = lambda: None
            if amount is None:
                assert expire_due(days_later(shop, 60).pod, kinds=[PAYMENTS]) == 0, "a call for it is under way"
            else:
                receive(shop, payment, "rcpt_1", amount)

        provider.before_answer = meanwhile
        if amount == 599:
            with pytest.raises(GatewayDeclinedError, match="had come; refund it"):
                shop.do(command(merchant_id=MERCHANT, payment_id=payment.payment_id))
        else:
            shop.do(command(merchant_id=MERCHANT, payment_id=payment.payment_id))
        ended = shop.present(PaymentState, payment.payment_id)
        assert (ended.status, ended.expires_at, money(ended)) == (status, None, (captured, 0, 0))
        assert shop.query("select kind from oltp.provider_calls") == []
    shop.assert_identities()


def test_the_provider_may_end_the_waiting_by_itself(shop: Shop, provider: Notifying) -> None:
    for order, is_ours in ((shop.place(("MUG", 1)), False), (shop.place(("MUG", 1)), True)):
        payment = awaiting(shop, order)
        if is_ours:
            shop.do(VoidPayment(merchant_id=MERCHANT, payment_id=payment.payment_id))
        assert deliver(shop, provider.expire(payment.provider_reference)).state is APPLIED
        ended = shop.present(PaymentState, payment.payment_id)
        assert ended.status is (PaymentStatus.VOIDED if is_ours else PaymentStatus.FAILED)
        expected = OrderStatus.PLACED if is_ours else OrderStatus.CANCELLED
        assert shop.present(OrderState, order.order_id).status is expected


def replace_reference(one: Notification, reference: str) -> Notification:
    return msgspec.structs.replace(one, authorization_reference=reference)


@dataclass(kw_only=True)
class Pair:
    """One awaited payment, and what can happen around it, a method per step."""

    shop: Shop
    provider: Notifying
    order: OrderState
    payment: PaymentState
    delivered: list[Notification] = field(default_factory=list)

    def _tell(self, kind: NotificationKind, **says: Any) -> None:
        one = said(self.provider, kind, self.payment, **says)
        self.delivered.append(one)
        deliver(self.shop, one)

    def _came(self, reference: str, amount_minor: int) -> None:
        self._tell(NotificationKind.PAYMENT_RECEIVED, reference=reference, amount_minor=amount_minor, currency="GBP")

    def all_comes(self) -> None:
        self._came("all", 1_198)

    def part_comes(self) -> None:
        self._came("part", 500)

    def much_comes(self) -> None:
        self._came("much", 2_000)

    def fails(self) -> None:
        self._tell(NotificationKind.PAYMENT_FAILED, reason="no cover")

    def all_returns(self) -> None:
        self._tell(
            NotificationKind.PAYMENT_RETURNED, reference="all", amount_minor=1_198, fee_minor=350, currency="GBP"
        )

    def expires(self) -> None:
        expire_due(days_later(self.shop, 60).pod, kinds=[PAYMENTS])

    def cancels(self) -> None:
        self.shop.cancel(self.order)

    def cancels_one(self) -> None:
        self.shop.cancel(self.order, (self.order.lines[0], 1))

    def voids(self) -> None:
        self.shop.do(VoidPayment(merchant_id=MERCHANT, payment_id=self.payment.payment_id))

    def releases(self) -> None:
        self.shop.do(ReleasePayment(merchant_id=MERCHANT, payment_id=self.payment.payment_id))

    def captures(self) -> None:
        self.shop.do(CapturePayment(merchant_id=MERCHANT, payment_id=self.payment.payment_id))

    def refunds(self) -> None:
        payment = self.shop.present(PaymentState, self.payment.payment_id)
        self.shop.refund(payment, (self.order.lines[0], 1))

    def pays_by_card(self) -> None:
        self.shop.pay(self.order)

    def ships(self) -> None:
        self.shop.fulfill(self.order)


STEPS: Sequence[str] = tuple(name for name in vars(Pair) if not name.startswith("_") and callable(getattr(Pair, name)))


def assert_nothing_is_lost_or_double(pair: Pair, steps: Sequence[str]) -> None:
    """Do the steps, what always comes in the end, and all again under other ids: what came is in the books."""
    for step in steps:
        act: Callable[[], None] = getattr(pair, step)
        with suppress(TieoutError):
            act()
    try_again(pair.shop)
    after = pair.shop.present(PaymentState, pair.payment.payment_id)
    for one in pair.delivered:
        deliver(pair.shop, msgspec.structs.replace(one, id=f"{one.id}-again"))
    try_again(pair.shop)
    assert pair.shop.present(PaymentState, pair.payment.payment_id) == after, steps
    received = [one for one in pair.delivered if one.type == NotificationKind.PAYMENT_RECEIVED]
    came = sum(one.amount_minor or 0 for one in received)
    unallocated = sum(one.amount_minor for one in after.movements if one.kind == "unallocated")
    assert after.captured_minor + unallocated == came, steps
    is_returned = "all_comes" in steps and "all_returns" in steps
    gone = sum(one.amount_minor for one in after.movements if one.kind in ("returned", "given_back"))
    assert gone == (1_198 if is_returned else 0), steps
    order = pair.shop.present(OrderState, pair.order.order_id)
    if after.status in (PaymentStatus.FAILED, PaymentStatus.VOIDED) and "pays_by_card" not in steps:
        assert order.status is OrderStatus.CANCELLED or {"voids", "releases"} & set(steps), steps


def stock_up(shop: Shop) -> None:
    many = [StockInput(variant_id=shop.variants["MUG"], quantity=10_000)]
    shop.do(ReceiveStock(merchant_id=MERCHANT, location_id=LOCATION, lines=many))


@pytest.mark.parametrize("method", PaymentMethod)
@pytest.mark.in_turn("interleavings of pending payments", seconds=40)
def test_every_order_of_two_steps_loses_nothing(shop: Shop, provider: Notifying, method: PaymentMethod) -> None:
    stock_up(shop)
    for steps in itertools.permutations(STEPS, 2):
        order = shop.place(("MUG", 2))
        pair = Pair(shop=shop, provider=provider, order=order, payment=awaiting(shop, order, method))
        assert_nothing_is_lost_or_double(pair, steps)
    shop.assert_identities()


def forget_what_waits(shop: Shop) -> None:
    """Remove what waits for what never comes: one pass tries a hundred notifications, and hundreds would wait."""
    with psycopg.connect(shop.settings.owner_dsn) as owner:
        owner.execute("delete from oltp.provider_notifications where state = 'pending'")


@pytest.mark.long
@pytest.mark.parametrize("method", PaymentMethod)
def test_every_order_of_three_steps_loses_nothing(shop: Shop, provider: Notifying, method: PaymentMethod) -> None:
    stock_up(shop)
    for number, steps in enumerate(itertools.permutations(STEPS, 3)):
        order = shop.place(("MUG", 2))
        pair = Pair(shop=shop, provider=provider, order=order, payment=awaiting(shop, order, method))
        assert_nothing_is_lost_or_double(pair, steps)
        forget_what_waits(shop)
        if number % 100 == 0:
            shop.assert_identities()
    shop.assert_identities()
