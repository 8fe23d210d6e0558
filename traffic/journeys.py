"""Executing plans: one order from its placing to its last refund, and the side events.

Belongs here: the steps of a plan as commands against one pod. Does not belong here: drawing plans (`plans.py`), running
many at once (`generator.py`, `live.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from contracts.events.gift_card import GiftCardFunding, GiftCardState
from contracts.events.order import LineKind, OrderLine, OrderState
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.stock import StockMovementKind
from contracts.money import micro_per_minor
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import Answer, Command, CommandPod, execute
from oltp.commands.fail_refund import FailRefund
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.grant_entitlement import GrantCustomerEntitlement
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.place_order import DiscountInput, OrderLineInput, PlaceOrder, PriceOverride
from oltp.commands.quantities import QuantityInput
from oltp.commands.receive_stock import StockInput
from oltp.commands.redeem_gift_card import RedeemGiftCard
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.reserve_stock import ReserveStock
from oltp.commands.set_price import SetPrice
from oltp.commands.void_payment import VoidPayment
from oltp.gateway import DECLINED_TOKEN
from traffic.content_ids import CATALOG_TIME, content_id
from traffic.later_payments import LaterPayment
from traffic.plans import LATER, Cancellation, OrderPlan, Payment, Refund, Shipment, SidePlan
from traffic.shops import LOCATION, shop_of, variant_id

ABANDONED_AFTER = timedelta(seconds=1)
"""How long an abandoned reservation holds its units, and a card of a promotion can be spent."""
CHECKOUT_TIME = timedelta(minutes=15)
GOODWILL_MINOR = 500
"""What a card is issued with onto which a refund is paid."""
SAMPLES = "samples"
"""The price source of free orders."""


@dataclass(kw_only=True)
class Journey:
    """The execution of one order plan; `source` is the order's source and the prefix of its keys."""

    pod: CommandPod
    plan: OrderPlan
    source: str
    done: Counter[str] = field(default_factory=Counter)
    """Counts of the commands that ran, by name; a declined payment is also counted as ``declined``."""

    def travel(self) -> Counter[str]:
        """Run all steps of the order and return the counts of the commands that ran."""
        order = self._place()
        if self.plan.payment in (Payment.GIFT_CARD, Payment.SPLIT) and order.total_minor > 0:
            return self._travel_with_card(order)
        if self.plan.payment in LATER and order.total_minor > 0:
            return self._travel_later(order)
        payment = self._authorize(order)
        is_unpaid = payment is None and order.total_minor > 0
        if is_unpaid or self.plan.cancellation is Cancellation.WHOLE:
            self._give_up(order, payment)
            return self.done
        order = self._cancel_part(order)
        if self.plan.payment is Payment.AUTHORIZED:
            return self.done
        payment = self._capture(payment, order) if payment else None
        self._ship(order)
        if payment is not None:
            self._refund(order, payment)
        return self.done

    def _travel_later(self, order: OrderState) -> Counter[str]:
        """Do the same for an order whose money comes later: it is shipped when the money is there."""
        if self.plan.cancellation is Cancellation.WHOLE:
            self._give_up(order, None)
            return self.done
        order = self._cancel_part(order)
        later = LaterPayment(pod=self.pod, plan=self.plan, source=self.source, done=self.done)
        payment = later.pay(order, self._id("payment/later"))
        if payment is None:
            return self.done
        self._ship(order)
        if self.plan.payment is Payment.DEBIT_RETURNED:
            later.take_back(payment)
        else:
            self._refund(order, payment)
        return self.done

    def _travel_with_card(self, order: OrderState) -> Counter[str]:
        """Do the same for an order that a gift card pays: nothing can be set aside on it, so it pays last."""
        if self.plan.cancellation is Cancellation.WHOLE:
            self._give_up(order, None)
            return self.done
        order = self._cancel_part(order)
        payment = self._pay_with_card(order)
        self._ship(order)
        if payment is not None and self.plan.payment is Payment.GIFT_CARD:
            self._refund(order, payment)
        return self.done

    def _pay_with_card(self, order: OrderState) -> PaymentState | None:
        """Sell a card and spend it; the rest of a split payment is taken from another card."""
        owed_minor = order.total_minor - order.cancelled_minor
        if owed_minor == 0:
            return None
        is_split = self.plan.payment is Payment.SPLIT and owed_minor > 1
        card = self._card(order, owed_minor // 2 if is_split else owed_minor + 500, GiftCardFunding.SOLD)
        command = RedeemGiftCard(
            merchant_id=order.merchant_id,
            order_id=order.order_id,
            gift_card_id=card.gift_card_id,
            payment_id=self._id("payment/card"),
        )
        payment = self._run("redeem", command)
        if is_split:
            rest = AuthorizePayment(
                merchant_id=order.merchant_id, order_id=order.order_id, payment_id=self._id("payment/1")
            )
            self._capture(self._run("authorize/1", rest), order)
        return payment

    def _card(self, order: OrderState, amount_minor: int, funding: GiftCardFunding) -> GiftCardState:
        command = IssueGiftCard(
            merchant_id=order.merchant_id,
            funding=funding,
            amount_minor=amount_minor,
            external_reference=self.plan.order_number if funding is GiftCardFunding.SOLD else None,
            source=self.source.partition("/")[0],
            gift_card_id=self._id("card"),
        )
        return self._run("card", command)

    def _run(self, step: str, command: Command[Answer]) -> Answer:
        answer = execute(self.pod, command, idempotency_key=f"{self.source}/{self.plan.order_number}/{step}")
        self.done[type(command).__name__] += 1
        return answer

    def _id(self, what: str) -> str:
        return str(content_id(CATALOG_TIME, self.source, self.plan.merchant_id, self.plan.order_number, what))

    def _place(self) -> OrderState:
        plan = self.plan
        free = PriceOverride(unit_price_micro=0, source=SAMPLES, reason="sample") if plan.is_free else None
        discounts = (DiscountInput(code=f"TAKE{plan.discount_minor}", amount_minor=plan.discount_minor),)
        return self._run(
            "place",
            PlaceOrder(
                merchant_id=plan.merchant_id,
                order_number=plan.order_number,
                customer_id=plan.customer_id,
                location_id=LOCATION,
                lines=[
                    OrderLineInput(sku=line.sku, quantity=line.quantity, price_override=free) for line in plan.lines
                ],
                discounts=list(discounts if plan.discount_minor else ()),
                shipping=[] if plan.is_free else None,
                reservation_id=self._reserve(),
                source=self.source.partition("/")[0],
                order_id=self._id("order"),
            ),
        )

    def _reserve(self) -> str | None:
        """Reserve the goods of some orders first, as a checkout does; return the reservation id. Skip services."""
        plan = self.plan
        goods = [line for line in plan.lines if line.sku != "WRAP"]
        if not plan.is_reserved_first or not goods:
            return None
        command = ReserveStock(
            merchant_id=plan.merchant_id,
            location_id=LOCATION,
            lines=[
                StockInput(variant_id=variant_id(plan.merchant_id, line.sku), quantity=line.quantity) for line in goods
            ],
            expires_at=self.pod.clock() + CHECKOUT_TIME,
            reservation_id=self._id("reservation"),
        )
        return self._run("reserve", command).reservation_id

    def _authorize(self, order: OrderState) -> PaymentState | None:
        """Return the authorized payment; None when every card was declined, or when the order is free."""
        tokens = {Payment.RETRIED: (DECLINED_TOKEN, "tok_card"), Payment.DECLINED: (DECLINED_TOKEN,)}
        if order.total_minor == 0:
            return None
        payment = None
        for attempt, token in enumerate(tokens.get(self.plan.payment, ("tok_card",)), start=1):
            command = AuthorizePayment(
                merchant_id=order.merchant_id,
                order_id=order.order_id,
                payment_id=self._id(f"payment/{attempt}"),
                payment_token=token,
            )
            payment = self._run(f"authorize/{attempt}", command)
            self.done["declined"] += payment.status is PaymentStatus.DECLINED
        return payment if payment is not None and payment.status is PaymentStatus.AUTHORIZED else None

    def _give_up(self, order: OrderState, payment: PaymentState | None) -> None:
        if payment is not None:
            self._run("void", VoidPayment(merchant_id=order.merchant_id, payment_id=payment.payment_id))
        reason = "not paid" if payment is None else "customer changed their mind"
        self._run("cancel", CancelOrder(merchant_id=order.merchant_id, order_id=order.order_id, reason=reason))

    def _cancel_part(self, order: OrderState) -> OrderState:
        """Cancel about half the units of the first line, if units are left to ship afterwards."""
        line = order.lines[0]
        quantity = line.quantity // 2
        if self.plan.cancellation is not Cancellation.PART or not quantity:
            return order
        part = [QuantityInput(order_line_id=line.order_line_id, quantity=quantity)]
        command = CancelOrder(merchant_id=order.merchant_id, order_id=order.order_id, lines=part, reason="fewer wanted")
        return self._run("cancel", command)

    def _capture(self, payment: PaymentState, order: OrderState) -> PaymentState | None:
        """Capture the owed amount and return the payment; None when nothing is owed."""
        owed_minor = order.total_minor - order.cancelled_minor
        if owed_minor == 0:
            return None
        parts: list[int | None] = [None]
        if self.plan.payment is Payment.IN_TWO and owed_minor > 1:
            parts = [owed_minor // 3 or 1, None]
        for number, amount_minor in enumerate(parts, start=1):
            command = CapturePayment(
                merchant_id=order.merchant_id, payment_id=payment.payment_id, amount_minor=amount_minor
            )
            payment = self._run(f"capture/{number}", command)
        return payment

    def _ship(self, order: OrderState) -> None:
        """Ship the order as planned."""
        shipment = self.plan.shipment
        if shipment is Shipment.NONE:
            return
        part = self._first_part(order.lines) if shipment is not Shipment.WHOLE else None
        if part:
            self._run("ship/1", self._fulfillment(order, part))
        if shipment is not Shipment.PART or not part:
            self._run("ship/2", self._fulfillment(order, None))

    def _first_part(self, lines: Sequence[OrderLine]) -> list[QuantityInput] | None:
        """Return one unit of the first line with an open unit; None when no unit would be left for later."""
        open_lines = [line for line in lines if line.kind is not LineKind.SHIPPING and _open(line)]
        if not open_lines or sum(_open(line) for line in open_lines) < 2:
            return None
        return [QuantityInput(order_line_id=open_lines[0].order_line_id, quantity=1)]

    def _fulfillment(self, order: OrderState, lines: list[QuantityInput] | None) -> FulfillOrder:
        return FulfillOrder(
            merchant_id=order.merchant_id,
            order_id=order.order_id,
            location_id=LOCATION,
            lines=lines,
            tracking_number=f"TRK{self.plan.order_number}",
        )

    def _refund(self, order: OrderState, payment: PaymentState) -> None:
        """Refund one unit of the last goods line, or all of them; restock only if everything was shipped."""
        lines = [line for line in order.lines if line.kind is LineKind.GOODS and _open(line)]
        if self.plan.refund is Refund.NONE or not lines:
            return
        line = lines[-1]
        is_restocked = self.plan.is_restocked and self.plan.shipment in (Shipment.WHOLE, Shipment.IN_TWO)
        quantity = _open(line) if self.plan.is_restocked else 1
        onto = self.plan.refund is Refund.ONTO_GIFT_CARD and payment.gift_card_id is None
        command = RequestRefund(
            merchant_id=order.merchant_id,
            payment_id=payment.payment_id,
            gift_card_id=self._card(order, GOODWILL_MINOR, GiftCardFunding.GRANTED).gift_card_id if onto else None,
            lines=[RefundLineInput(order_line_id=line.order_line_id, quantity=quantity, is_restocked=is_restocked)],
            reason="returned" if is_restocked else "not as described",
            refund_id=self._id("refund"),
        )
        refund_id = self._run("refund/request", command).refund_id
        if self.plan.refund in (Refund.COMPLETED, Refund.ONTO_GIFT_CARD):
            self._run("refund/complete", CompleteRefund(merchant_id=order.merchant_id, refund_id=refund_id))
        elif self.plan.refund is Refund.FAILED:
            fail = FailRefund(merchant_id=order.merchant_id, refund_id=refund_id, failure_reason="parcel never arrived")
            self._run("refund/fail", fail)


def run_beside(pod: CommandPod, plan: SidePlan, source: str) -> Counter[str]:
    """Make a side plan happen and return the command that ran."""
    command = _side_command(pod, plan, source.partition("/")[0])
    execute(pod, command, idempotency_key=f"{source}/{plan.name}")
    return Counter([type(command).__name__])


def _side_command(pod: CommandPod, plan: SidePlan, source: str) -> Command[Any]:
    merchant_id, variant = plan.merchant_id, variant_id(plan.merchant_id, plan.sku)
    if plan.what == "write_off":
        return AdjustStock(
            merchant_id=merchant_id,
            location_id=LOCATION,
            variant_id=variant,
            quantity=-plan.quantity,
            kind=StockMovementKind.WRITTEN_OFF,
            reason="damaged",
        )
    if plan.what == "abandon":
        return ReserveStock(
            merchant_id=merchant_id,
            location_id=LOCATION,
            lines=[StockInput(variant_id=variant, quantity=plan.quantity)],
            expires_at=pod.clock() + ABANDONED_AFTER,
        )
    if plan.what == "price_change":
        price_micro = plan.quantity * micro_per_minor(shop_of(merchant_id).currency)
        return SetPrice(merchant_id=merchant_id, variant_id=variant, unit_price_micro=price_micro)
    if plan.what == "gift_card":
        return IssueGiftCard(
            merchant_id=merchant_id,
            funding=GiftCardFunding.GRANTED,
            amount_minor=plan.quantity,
            source=source,
            reason="promotion",
            expires_at=pod.clock() + ABANDONED_AFTER,
        )
    return GrantCustomerEntitlement(
        merchant_id=merchant_id,
        customer_id=plan.customer_id or "",
        feature="loyalty",
        grantor=plan.name,
        level=plan.quantity,
    )


def _open(line: OrderLine) -> int:
    return line.quantity - line.cancelled_quantity
