"""Calls to a provider outside of this process: checked before, recorded after, and holding nothing meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from contracts.errors import ConflictError, GatewayDeclinedError, GatewayError, IdempotencyConflictError
from contracts.events.order import OrderState, OrderStatus
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.refund import RefundStatus
from contracts.ids import uuid7
from contracts.limits import REFERENCE
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import Command, execute
from oltp.commands.fail_refund import FailRefund
from oltp.commands.place_order import PriceOverride
from oltp.commands.void_payment import VoidPayment
from oltp.gateway import EmbeddedGateway, Moved
from oltp.settling import settle_provider_calls, unsettled_calls
from tests.integration.shop import MERCHANT, Shop

AT_ONCE = timedelta(0)


class Provider(EmbeddedGateway):
    """A provider with accounts: what is set aside and what was taken, by the reference of the authorization.

    `before_answer` runs when it has acted, before anybody knows.
    """

    is_local = False

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Moved] = {}
        self.set_aside: dict[str, int] = {}
        self.taken: dict[str, int] = {}
        self.sent_back: dict[str, int] = {}
        """By the reference of the receipt."""
        self.unsendable: set[str] = set()
        self.kept: set[str] = set()
        """References that it refuses to let go, because it has their money."""
        self.before_answer: Callable[[], None] = lambda: None
        self.ending = ""
        """Of every reference."""

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Set aside, once a key."""
        key = f"auth {idempotency_key}"
        if key not in self.answers:
            reference = self._answer("auth", idempotency_key, payment_token) + self.ending
            self.answers[key] = Moved(reference=reference, amount_minor=amount_minor)
            self.set_aside[reference] = amount_minor
        self.before_answer()
        return self.answers[key]

    def expect_transfer(self, *, idempotency_key: str, amount_minor: int, currency: str) -> Moved:
        """Wait for a transfer, once a key."""
        key = f"tran {idempotency_key}"
        if key not in self.answers:
            moved = super().expect_transfer(
                idempotency_key=idempotency_key, amount_minor=amount_minor, currency=currency
            )
            self.answers[key] = replace(moved, reference=moved.reference + self.ending)
            self.set_aside[self.answers[key].reference] = amount_minor
        self.before_answer()
        return self.answers[key]

    def collect(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Begin to collect, once a key."""
        key = f"debi {idempotency_key}"
        if key not in self.answers:
            reference = self._answer("debi", idempotency_key, payment_token) + self.ending
            self.answers[key] = Moved(reference=reference, amount_minor=amount_minor)
            self.set_aside[reference] = amount_minor
        self.before_answer()
        return self.answers[key]

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Take, once a key."""
        key = f"capt {idempotency_key}"
        if key not in self.answers:
            reference = self._answer("capt", idempotency_key, authorization_reference) + self.ending
            self.answers[key] = Moved(reference=reference, amount_minor=amount_minor)
            self.set_aside[authorization_reference] -= amount_minor
            self.taken[authorization_reference] = self.taken.get(authorization_reference, 0) + amount_minor
        self.before_answer()
        return self.answers[key]

    def void(self, *, idempotency_key: str, authorization_reference: str) -> str:
        """Let go what is left."""
        if authorization_reference in self.kept:
            raise GatewayDeclinedError("The money is there.")
        self.set_aside[authorization_reference] = 0
        self.before_answer()
        return self._answer("void", idempotency_key, authorization_reference)

    def refund(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> str:
        """Give back, once a key."""
        key = f"refd {idempotency_key}"
        if key not in self.answers:
            self.answers[key] = Moved(reference=key + self.ending, amount_minor=amount_minor)
            self.taken[authorization_reference] = self.taken.get(authorization_reference, 0) - amount_minor
        self.before_answer()
        return self.answers[key].reference

    def give_back(self, *, idempotency_key: str, receipt_reference: str, amount_minor: int, currency: str) -> str:
        """Send back, once a key."""
        key = f"back {idempotency_key}"
        if key not in self.answers:
            if receipt_reference in self.unsendable:
                raise GatewayDeclinedError("The customer's account is closed.")
            self.answers[key] = Moved(reference=key, amount_minor=amount_minor)
            self.sent_back[receipt_reference] = self.sent_back.get(receipt_reference, 0) + amount_minor
        self.before_answer()
        return self.answers[key].reference


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def gateway(provider: Provider) -> Provider:
    return provider


@pytest.fixture
def shop(shop: Shop, provider: Provider) -> Iterator[Shop]:
    yield shop
    # Books and provider say the same of every payment, and no call is left.
    for payment in (state for (kind, _), state in shop.fold().items() if kind == "payment"):
        assert provider.taken.get(payment.provider_reference, 0) == payment.captured_minor - payment.refunded_minor
        is_live = payment.status in (PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED)
        held = payment.authorized_minor - payment.captured_minor - payment.released_minor if is_live else 0
        assert provider.set_aside.get(payment.provider_reference, 0) == held
    known = {state.provider_reference for (kind, _), state in shop.fold().items() if kind == "payment"}
    assert {reference for reference, amount in provider.set_aside.items() if amount} <= known
    assert shop.query("select kind from oltp.provider_calls") == []


def killed() -> None:
    raise KeyboardInterrupt


def die_in(shop: Shop, provider: Provider, command: Command[Any], key: str) -> None:
    """Run a command in a process that dies when the provider has acted."""
    provider.before_answer = killed
    with pytest.raises(KeyboardInterrupt):
        shop.do(command, key)
    provider.before_answer = lambda: None


def test_a_payment_id_in_use_is_refused_before_the_provider_is_asked(shop: Shop, provider: Provider) -> None:
    taken = shop.authorize(shop.place(("MUG", 1)))
    other = shop.place(("PIN", 3))
    with pytest.raises(ConflictError, match="used already"):
        shop.authorize(other, payment_id=taken.payment_id)
    assert list(provider.set_aside) == [taken.provider_reference]
    payment_id = str(uuid7())

    def too_late() -> None:
        provider.before_answer = lambda: None
        with pytest.raises(ConflictError, match="being authorized already"):
            shop.authorize(other, payment_id=payment_id)

    provider.before_answer = too_late
    assert shop.authorize(shop.place(("MUG", 1)), payment_id=payment_id).payment_id == payment_id


def test_an_authorization_whose_process_died_is_recorded_by_its_key(shop: Shop, provider: Provider) -> None:
    order = shop.place(("MUG", 1))
    command = AuthorizePayment(merchant_id=MERCHANT, order_id=order.order_id)
    die_in(shop, provider, command, "checkout")
    # Its money is spoken for, and the key belongs to this body.
    with pytest.raises(ConflictError, match="nothing open"):
        shop.authorize(order)
    with pytest.raises(IdempotencyConflictError):
        shop.do(AuthorizePayment(merchant_id=MERCHANT, order_id=order.order_id, amount_minor=1), "checkout")
    payment = shop.do(command, "checkout")
    assert payment.status is PaymentStatus.AUTHORIZED and len(provider.set_aside) == 1


def test_an_authorization_that_nobody_comes_back_for_is_voided(shop: Shop, provider: Provider) -> None:
    order = shop.place(("MUG", 1))
    command = AuthorizePayment(merchant_id=MERCHANT, order_id=order.order_id)
    die_in(shop, provider, command, "checkout")
    assert settle_provider_calls(shop.pod).settled == 0
    provider.before_answer = killed
    with pytest.raises(KeyboardInterrupt):
        settle_provider_calls(shop.pod, left_after=AT_ONCE)
    provider.before_answer = lambda: None
    assert settle_provider_calls(shop.pod, left_after=AT_ONCE).settled == 1
    assert list(provider.set_aside.values()) == [0]
    assert shop.do(command, "checkout").status is PaymentStatus.DECLINED
    assert shop.pay(order).captured_minor == order.total_minor


def test_captures_voids_and_refunds_whose_process_died_are_completed(shop: Shop, provider: Provider) -> None:
    order, other = shop.place(("MUG", 2)), shop.place(("PIN", 3))
    payment, voided = shop.authorize(order), shop.authorize(other)
    die_in(shop, provider, CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id), "capture")
    die_in(shop, provider, VoidPayment(merchant_id=MERCHANT, payment_id=voided.payment_id), "void")
    with pytest.raises(ConflictError, match="being asked to void"):
        shop.capture(voided)
    assert settle_provider_calls(shop.pod, left_after=AT_ONCE).settled == 2
    assert shop.present(PaymentState, payment.payment_id).captured_minor == order.total_minor
    assert shop.present(PaymentState, voided.payment_id).status is PaymentStatus.VOIDED
    refund = shop.request_refund(payment, (order.lines[0], 2))
    complete = CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id)
    die_in(shop, provider, complete, "refund")
    with pytest.raises(ConflictError, match="being asked to pay it"):
        shop.do(FailRefund(merchant_id=MERCHANT, refund_id=refund.refund_id, failure_reason="account closed"))
    assert shop.do(complete, "another worker").status is RefundStatus.COMPLETED
    assert settle_provider_calls(shop.pod, left_after=AT_ONCE).settled == 1
    assert shop.do(complete, "refund").status is RefundStatus.COMPLETED


def test_a_refund_leaves_owed_what_the_provider_is_being_asked_to_capture(shop: Shop, provider: Provider) -> None:
    """The goods are given back while shipping is being captured: it is withdrawn then, not cancelled."""
    price = PriceOverride(unit_price_micro=4_950_000, source="test", reason="by hand")
    order = shop.place(("MUG", 1), shipping=[price])
    mug, shipping = order.lines
    payment = shop.capture(shop.authorize(order), mug.total_minor)
    refund = shop.request_refund(payment, (mug, 1))
    capture = CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id)
    die_in(shop, provider, capture, "shipping")
    shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))
    assert shop.do(capture, "shipping").captured_minor == order.total_minor
    ended = shop.present(OrderState, order.order_id)
    assert (ended.status, ended.cancelled_minor) == (OrderStatus.CANCELLED, 0)
    shop.assert_identities()
    captured = shop.present(PaymentState, payment.payment_id)
    assert shop.refund(captured, (shipping, 1)).amount_minor == shipping.total_minor


def test_a_provider_that_does_not_answer_is_asked_again_later(shop: Shop, provider: Provider) -> None:
    payment = shop.authorize(shop.place(("MUG", 1)))

    def silent() -> None:
        raise GatewayError("The provider did not answer.")

    provider.before_answer = silent
    with pytest.raises(GatewayError):
        shop.do(CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id), "capture")
    assert unsettled_calls(shop.settings.reader_dsn) == (0, 0.0)
    with psycopg.connect(shop.settings.owner_dsn) as owner:
        owner.execute("update oltp.provider_calls set asked_at = asked_at - interval '2 hours'")
    calls, oldest_seconds = unsettled_calls(shop.settings.reader_dsn)
    assert calls == 1 and oldest_seconds >= 7_200
    failed = settle_provider_calls(shop.pod, left_after=AT_ONCE)
    assert failed.failures == {f"{MERCHANT}/capture": "The provider did not answer."}
    provider.before_answer = lambda: None
    assert settle_provider_calls(shop.pod, left_after=AT_ONCE).settled == 1


def test_a_declined_capture_leaves_its_key_free(shop: Shop, provider: Provider) -> None:
    payment = shop.authorize(shop.place(("MUG", 1)))

    def declined() -> None:
        raise GatewayDeclinedError("Expired.")

    provider.before_answer = declined
    command = CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id)
    with pytest.raises(GatewayDeclinedError):
        shop.do(command, "capture")
    provider.before_answer = lambda: None
    assert shop.do(VoidPayment(merchant_id=MERCHANT, payment_id=payment.payment_id), "capture").version == 2
    # What it said it declined, it had not done.
    provider.taken.clear()


def test_one_key_from_many_threads_is_asked_and_recorded_once(shop: Shop, provider: Provider) -> None:
    command = AuthorizePayment(merchant_id=MERCHANT, order_id=shop.place(("MUG", 1)).order_id)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: execute(shop.pod, command, idempotency_key="same"), range(6)))
    assert len({answer.payment_id for answer in answers}) == len(provider.set_aside) == 1


def test_slow_calls_hold_no_connection_and_no_row(shop: Shop, provider: Provider) -> None:
    """As many calls as the pool has connections hang at the provider; everything else goes on."""
    slow, waiting = shop.pod.connections.max_size, threading.Semaphore(0)
    let_go = threading.Event()

    def hang() -> None:
        waiting.release()
        assert let_go.wait(60)

    orders = [shop.place(("MUG", 1)) for _ in range(slow)]
    provider.before_answer = hang
    with ThreadPoolExecutor(slow) as threads:
        calls = [threads.submit(shop.authorize, order) for order in orders]
        try:
            assert all(waiting.acquire(timeout=60) for _ in calls)
            # A ninth command, and one on an order whose payment is being authorized.
            assert shop.place(("PIN", 1)).version == 1
            assert shop.cancel(orders[0]).version == 2
        finally:
            provider.before_answer = lambda: None
            let_go.set()
        statuses = [call.result().status for call in calls]
    assert statuses == [PaymentStatus.DECLINED, *[PaymentStatus.AUTHORIZED] * (slow - 1)]


@pytest.mark.parametrize("ending", ["x" * 300, "\u202e", "\x00"])
def test_a_reference_that_cannot_be_kept_leaves_no_money_in_between(
    shop: Shop, provider: Provider, ending: str
) -> None:
    payment = shop.authorize(shop.place(("MUG", 2)))
    provider.ending = ending
    # By this one money would have to be taken later.
    other = shop.place(("PIN", 1))
    assert shop.authorize(other).status is PaymentStatus.DECLINED
    assert sum(provider.set_aside.values()) == payment.authorized_minor
    # By these nothing is asked any more: what has moved is recorded, under a name that can be.
    captured = shop.capture(payment)
    (capture,) = captured.captures
    refund = shop.request_refund(payment, (shop.present(OrderState, payment.order_id).lines[0], 1))
    completed = shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))
    for reference, begins in ((capture.provider_reference, "capt_"), (completed.provider_reference, "refd ")):
        assert reference is not None and reference.startswith(begins) and REFERENCE.problem(reference) is None
        assert "~" in reference
