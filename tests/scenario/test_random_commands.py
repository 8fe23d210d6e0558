"""Hundreds of random commands on one merchant: whatever is asked and refused, the pod's identities hold.

A seed chooses the commands; TIEOUT_TEST_SEED repeats a run. The model only remembers ids: what is right is judged by
the database (its view of stock, its sums per order, line and payment) and by the events, which must fold to the rows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from contracts.errors import (
    ConflictError,
    GatewayDeclinedError,
    InputError,
    InsufficientStockError,
    OverRefundError,
    TieoutError,
)
from contracts.events.order import LineKind, OrderState, OrderStatus
from contracts.events.payment import PaymentMethod, PaymentState
from contracts.events.refund import RefundState, RefundStatus
from derived.read_models.fulfillment_view import ROOTS, FulfillmentOrder
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.expire_payment import PAYMENTS
from oltp.commands.fail_payment import FailPayment
from oltp.commands.fail_refund import FailRefund
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.commands.place_order import DiscountInput, PriceOverride
from oltp.commands.receive_payment import ReceivePayment
from oltp.commands.release_payment import ReleasePayment
from oltp.commands.return_payment import ReturnPayment
from oltp.commands.reverse_refund import ReverseRefund
from oltp.commands.void_payment import VoidPayment
from oltp.domain.orders import open_quantity, owed_minor
from oltp.expiry import expire_due
from oltp.gateway import DECLINED_TOKEN
from tests.conftest import MakePod
from tests.integration.shop import MERCHANT, NOW, PRICES, Shop, open_shop

STEPS = 300
STEPS_MAX = 4 * STEPS
NEEDED = {"place", "authorize", "capture", "fulfill", "cancel", "request refund", "complete refund"}


@dataclass
class Scenario:
    """What has been done so far, by id, and the steps that may come next."""

    shop: Shop
    rng: random.Random
    orders: list[OrderState] = field(default_factory=list)
    payments: list[PaymentState] = field(default_factory=list)
    refunds: list[RefundState] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> set[str]:
        """The kinds of commands that were done at least once."""
        return {name.removesuffix(" done") for name in self.outcomes if name.endswith(" done")}

    def step(self) -> None:
        """Do one random thing; a refusal must be one that Tieout foresaw."""
        name, act = self.rng.choice(self.steps())
        try:
            act()
            self.outcomes[f"{name} done"] += 1
        except GatewayDeclinedError:
            self.outcomes[f"{name} declined"] += 1
        except TieoutError as error:
            self.outcomes[f"{name} {type(error).__name__}"] += 1

    def steps(self) -> list[tuple[str, Callable[[], Any]]]:
        """Every kind of command, the frequent ones more than once."""
        steps: list[tuple[str, Callable[[], Any]]] = [("place", self.place)] * 3
        if self.orders:
            steps += [("authorize", self.authorize), ("fulfill", self.fulfill), ("cancel", self.cancel)] * 2
            steps += [("await", self.await_payment)]
        if self.payments:
            steps += [("capture", self.capture)] * 3 + [("request refund", self.request_refund)] * 3
            steps += [("void", self.void), ("release", self.release)]
            steps += [("receive", self.receive)] * 2
            steps += [("fail payment", self.fail_payment), ("return", self.take_back), ("give back", self.give_back)]
            steps += [("expire", self.expire)]
        if self.refunds:
            steps += [("complete refund", self.complete)] * 2
            steps += [("fail refund", self.fail), ("reverse refund", self.reverse)]
        return [*steps, ("repeat", self.repeat)]

    def place(self) -> None:
        """An order of up to six lines, the same SKU perhaps twice, perhaps more than is in stock."""
        skus = [*PRICES, "GIFTWRAP"]
        lines = [(self.rng.choice(skus), self.rng.randint(1, 9)) for _ in range(self.rng.randint(1, 6))]
        discounts = [DiscountInput(code="D", amount_minor=self.rng.randint(1, 400))] if self.rng.random() < 0.4 else []
        shipping: list[PriceOverride] | None = None if self.rng.random() < 0.5 else []
        self.orders.append(self.shop.place(*lines, discounts=discounts, shipping=shipping))

    def authorize(self) -> None:
        """All that is open or a part of it; sometimes with a card that is declined."""
        order = self.rng.choice(self.orders)
        amount = None if self.rng.random() < 0.6 else self.rng.randint(1, order.total_minor + 50)
        token = DECLINED_TOKEN if self.rng.random() < 0.1 else "tok_card"
        self.payments.append(self.shop.authorize(order, amount, payment_token=token))

    def await_payment(self) -> None:
        """All that is open or a part of it, by either method."""
        order, method = self.rng.choice(self.orders), self.rng.choice(list(PaymentMethod))
        amount = None if self.rng.random() < 0.6 else self.rng.randint(1, order.total_minor + 50)
        command = AwaitPayment(merchant_id=MERCHANT, order_id=order.order_id, method=method, amount_minor=amount)
        self.payments.append(self.shop.do(command))

    def later(self) -> PaymentState:
        """A payment whose money comes later, if there is one."""
        return self.rng.choice([payment for payment in self.payments if payment.method] or self.payments)

    def receive(self) -> None:
        """What is waited for, a part of it, or more; sometimes a receipt that came before."""
        payment = self.later()
        amount = max(payment.authorized_minor, 1)
        amount = amount if self.rng.random() < 0.4 else self.rng.randint(1, amount + 50)
        reference = f"rcpt_{self.rng.randint(1, 3)}"
        named = {"payment_id": payment.payment_id, "provider_reference": reference}
        self.shop.do(ReceivePayment(merchant_id=MERCHANT, **named, amount_minor=amount))

    def fail_payment(self) -> None:
        """A payment that may be pending."""
        command = FailPayment(merchant_id=MERCHANT, payment_id=self.later().payment_id, failure_reason="no cover")
        self.shop.do(command)

    def take_back(self) -> None:
        """A receipt that may be there."""
        named = {"payment_id": self.later().payment_id, "provider_reference": f"rcpt_{self.rng.randint(1, 3)}"}
        self.shop.do(ReturnPayment(merchant_id=MERCHANT, **named, fee_minor=self.rng.randint(0, 9), reason="objected"))

    def give_back(self) -> None:
        """What may be unallocated of a receipt."""
        named: dict[str, Any] = {"payment_id": self.later().payment_id}
        reference = f"rcpt_{self.rng.randint(1, 3)}"
        command = GiveBackUnallocated(merchant_id=MERCHANT, **named, provider_reference=reference, reason="too much")
        self.shop.do(command)

    def expire(self) -> None:
        """Some waiting comes to its end at once."""
        later = replace(self.shop.pod, clock=lambda: NOW + timedelta(days=60))
        expire_due(later, kinds=[PAYMENTS])

    def capture(self) -> None:
        """All or a part, sometimes more than there is."""
        payment = self.rng.choice(self.payments)
        amount = None if self.rng.random() < 0.5 else self.rng.randint(1, payment.authorized_minor + 50)
        self.shop.capture(payment, amount)

    def void(self) -> None:
        """Any payment, captured ones among them."""
        self.shop.do(VoidPayment(merchant_id=MERCHANT, payment_id=self.rng.choice(self.payments).payment_id))

    def release(self) -> None:
        """Any payment; the provider may have let it go by itself."""
        payment_id, is_by_provider = self.rng.choice(self.payments).payment_id, self.rng.random() < 0.5
        self.shop.do(
            ReleasePayment(merchant_id=MERCHANT, payment_id=payment_id, is_released_by_provider=is_by_provider)
        )

    def units(self, order: OrderState) -> list[Any]:
        """A few lines with a few units each."""
        lines = self.rng.sample(order.lines, self.rng.randint(1, min(3, len(order.lines))))
        return [(line, self.rng.randint(1, line.quantity)) for line in lines]

    def fulfill(self) -> None:
        """All that is open, or a few units."""
        order = self.rng.choice(self.orders)
        self.shop.fulfill(order, *([] if self.rng.random() < 0.4 else self.units(order)))

    def cancel(self) -> None:
        """All that is open, or a few units."""
        order = self.rng.choice(self.orders)
        self.shop.cancel(order, *([] if self.rng.random() < 0.2 else self.units(order)))

    def request_refund(self) -> None:
        """A few units of the payment's order, restocked or not."""
        payment = self.rng.choice(self.payments)
        order = next(order for order in self.orders if order.order_id == payment.order_id)
        is_restocked = self.rng.random() < 0.4
        self.refunds.append(self.shop.request_refund(payment, *self.units(order), is_restocked=is_restocked))

    def complete(self) -> None:
        """Any refund, settled ones among them."""
        self.shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=self.rng.choice(self.refunds).refund_id))

    def fail(self) -> None:
        """Any refund, settled ones among them."""
        refund_id = self.rng.choice(self.refunds).refund_id
        self.shop.do(FailRefund(merchant_id=MERCHANT, refund_id=refund_id, failure_reason="account closed"))

    def reverse(self) -> None:
        """Any refund, mostly one that is completed."""
        refund_id = self.rng.choice(self.refunds).refund_id
        self.shop.do(ReverseRefund(merchant_id=MERCHANT, refund_id=refund_id, failure_reason="the money came back"))

    def repeat(self) -> None:
        """A command under the key it had before."""
        key = self.rng.choice(list(self.shop.done))
        command, answer = self.shop.done[key]
        assert execute(self.shop.pod, command, idempotency_key=key) == answer


@pytest.fixture
def scenario(make_pod: MakePod, rng: random.Random) -> Iterator[Scenario]:
    settings = make_pod()
    with build_command_pod(settings, clock=lambda: NOW) as pod:
        is_inclusive = rng.random() < 0.5
        shop = open_shop(pod, settings, units=250, is_tax_inclusive=is_inclusive, rate_ppm=rng.randint(0, 300_000))
        yield Scenario(shop=shop, rng=rng)


@pytest.mark.parametrize("run", range(2))
def test_identities_hold_after_any_commands(scenario: Scenario, run: int) -> None:
    for number in range(STEPS_MAX):
        scenario.step()
        if number % 75 == 0:
            scenario.shop.assert_identities()
        # A seed whose refunds all came to nothing so far goes on a little.
        if number >= STEPS and scenario.done >= NEEDED:
            break
    scenario.shop.assert_identities()
    assert scenario.done >= NEEDED
    bring_to_an_end(scenario)
    scenario.shop.assert_identities()


def bring_to_an_end(scenario: Scenario) -> None:
    """Settle every refund, then cancel or ship what is left: every order ends, and nothing is held for it any more."""
    shop, rng = scenario.shop, scenario.rng
    shop.do(ConfigureMerchant(merchant_id=MERCHANT, ships_before_paid=True))
    for refund in scenario.refunds:
        settle = [
            CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id),
            FailRefund(merchant_id=MERCHANT, refund_id=refund.refund_id, failure_reason="account closed"),
        ]
        # What a bank took back is not refunded as well.
        for command in (rng.choice(settle), settle[1]):
            with suppress(ConflictError, OverRefundError):
                shop.do(command)
    for order in scenario.orders:
        before = shop.present(OrderState, order.order_id)
        # The shipping list has what can be shipped, no more and no less.
        shipped = ROOTS[0].row(before, "pod", "epoch")
        assert isinstance(shipped, FulfillmentOrder)
        is_ended = before.status in (OrderStatus.CANCELLED, OrderStatus.FULFILLED)
        goods = [line for line in before.lines if line.kind is LineKind.GOODS]
        assert shipped.open_quantity == sum(map(open_quantity, goods))
        assert not (is_ended and shipped.open_quantity)
        for step in rng.sample([shop.cancel, shop.fulfill], 2):
            with suppress(ConflictError):
                step(order)
        after = shop.present(OrderState, order.order_id)
        assert after.status in (OrderStatus.CANCELLED, OrderStatus.FULFILLED)
    assert shop.query("select count(*) from oltp.reservations where order_id is not null and status = 'held'") == [(0,)]


def test_everything_charged_can_be_given_back_to_the_last_penny(scenario: Scenario) -> None:
    shop, rng = scenario.shop, scenario.rng
    for _ in range(6):
        with suppress(InputError, InsufficientStockError):
            scenario.place()
    for order in scenario.orders:
        for line in order.lines:
            if rng.random() < 0.5 and line.quantity > 1:
                shop.cancel(order, (line, rng.randint(1, line.quantity - 1)))
        payment = None
        if owed_minor(shop.present(OrderState, order.order_id)):
            payment = shop.pay(order)
        if shop.present(OrderState, order.order_id).status is OrderStatus.PLACED:
            shop.fulfill(order)
        if payment is not None:
            refund_in_random_parts(shop, rng, shop.present(OrderState, order.order_id), payment)
    shop.assert_identities()


def refund_in_random_parts(shop: Shop, rng: random.Random, order: OrderState, payment: PaymentState) -> None:
    """Refund every unit that is left, in random parts; what is refunded equals what was captured, tax included."""
    left = {line.order_line_id: line.quantity - line.cancelled_quantity for line in order.lines}
    refunds: list[RefundState] = []
    while any(left.values()):
        line = rng.choice([line for line in order.lines if left[line.order_line_id]])
        quantity = rng.randint(1, left[line.order_line_id])
        left[line.order_line_id] -= quantity
        refunds.append(shop.refund(payment, (line, quantity)))
    assert all(refund.status is RefundStatus.COMPLETED for refund in refunds)
    assert sum(refund.amount_minor for refund in refunds) == payment.captured_minor
    assert sum(refund.tax_minor for refund in refunds) == order.tax_minor - order.cancelled_tax_minor
