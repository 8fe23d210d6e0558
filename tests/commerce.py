"""Plausible commerce without a pod: random but exact orders, payments, refunds, stock, as events of real states.

Belongs here: making states and events that keep every identity of the contracts. Does not belong here: assertions, and
the rules themselves (`oltp/domain/`), which this does not use: the warehouse is tested independently of OLTP.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from contracts.events.adjustment import AdjustmentKind, AdjustmentState
from contracts.events.common import AggregateState
from contracts.events.entitlement import CustomerEntitlementState, Grant, MerchantEntitlementState
from contracts.events.fulfillment import FulfillmentLine, FulfillmentState
from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.order import DEPOSIT_TAX_CATEGORY, LineKind, OrderDiscount, OrderLine, OrderState, OrderStatus
from contracts.events.payment import PaymentCapture, PaymentState, PaymentStatus
from contracts.events.product import Attribute, ProductKind, ProductState, Variant
from contracts.events.refund import RefundLine, RefundState, RefundStatus
from contracts.events.stock import (
    ReservationLine,
    ReservationState,
    ReservationStatus,
    StockMovementKind,
    StockMovementState,
)
from contracts.money import allocate, line_amount, portion, tax_of
from tests.derived_work import FakePod

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)

Change = tuple[AggregateState, str, datetime]
"""A state after a change, the type of its event, when it occurred."""

MERCHANTS = (
    ("united-kingdom", "GBP", True, 200_000),
    ("france", "EUR", False, 195_000),
    ("japan", "JPY", True, 100_000),
)


@dataclass
class Commerce:
    """A source of changes; each call returns what one transaction of a pod would have put into the outbox."""

    rng: random.Random
    now: datetime = START
    merchants: tuple[tuple[str, str, bool, int], ...] = MERCHANTS
    orders: list[OrderState] = field(default_factory=list)
    payments: dict[str, PaymentState] = field(default_factory=dict)
    refunded: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Quantity, amount and tax given back so far, by order line."""

    def new_id(self) -> str:
        """Return an id: like UUIDv7 it begins with the time, and it comes from the seed."""
        milliseconds = int(self.now.timestamp() * 1000)
        return str(uuid.UUID(int=(milliseconds << 80) | (0x7 << 76) | (0b10 << 62) | self.rng.getrandbits(62)))

    def opening(self) -> list[Change]:
        """Return merchants, a product and entitlements: what exists before the first order."""
        return [change for merchant in self.merchants for change in self._opening_of(*merchant)]

    def transactions(self, count: int) -> Iterator[list[Change]]:
        """Yield `count` transactions of all kinds, orders most often."""
        kinds = (self.place, self.place, self.pay, self.pay, self.cancel, self.fulfill, self.refund, self.adjust)
        for _ in range(count):
            yield self.rng.choice(kinds)()

    def place(self) -> list[Change]:
        """Return a placed order with its reservation and its authorized payment."""
        self._tick()
        merchant, currency, is_inclusive, rate = self.rng.choice(self.merchants)
        lines = self._priced_lines(currency, is_inclusive, rate)
        goods = [line for line in lines if line.kind is not LineKind.SHIPPING]
        discounts = self._discounts(sum(line.discount_minor for line in goods))
        reservation_id = self.new_id()
        order = with_totals(
            OrderState(
                merchant_id=merchant,
                version=1,
                order_id=self.new_id(),
                order_number=str(len(self.orders) + 1),
                customer_id=self.rng.choice([None, "ann", "bob", "cleo"]),
                currency=currency,
                status=OrderStatus.PLACED,
                source="generator",
                reservation_id=reservation_id,
                lines_minor=0,
                shipping_minor=0,
                discount_minor=0,
                added_tax_minor=0,
                tax_minor=0,
                rounding_micro=0,
                total_minor=0,
                cancelled_minor=0,
                cancelled_tax_minor=0,
                placed_at=self.now,
                lines=lines,
                discounts=discounts,
            )
        )
        self.orders.append(order)
        payment = PaymentState(
            merchant_id=merchant,
            version=1,
            payment_id=self.new_id(),
            order_id=order.order_id,
            customer_id=order.customer_id,
            currency=currency,
            status=PaymentStatus.AUTHORIZED,
            provider="embedded",
            provider_reference=self.new_id(),
            authorized_minor=order.total_minor,
            captured_minor=0,
            refunded_minor=0,
            authorized_at=self.now,
            captures=[],
        )
        self.payments[order.order_id] = payment
        return [
            (order, "order_placed", self.now),
            (self._reservation(order, reservation_id), "stock_reserved", self.now),
            (payment, "payment_authorized", self.now),
        ]

    def give_away(self) -> list[Change]:
        """Return a placed order that costs nothing, on a day of its own: there is nothing to pay and to book."""
        self.now += timedelta(days=1)
        (placed, *_) = self.place()
        order = placed[0]
        assert isinstance(order, OrderState)
        free = msgspec.structs.replace(
            order.lines[0],
            unit_price_micro=0,
            price_source="gift",
            amount_minor=0,
            rounding_micro=0,
            discount_minor=0,
            taxable_minor=0,
            tax_minor=0,
            total_minor=0,
        )
        gift = with_totals(msgspec.structs.replace(order, lines=[free], discounts=[]))
        self.orders[int(order.order_number) - 1] = gift
        payment = msgspec.structs.replace(self.payments[order.order_id], authorized_minor=0)
        self.payments[order.order_id] = payment
        self.now += timedelta(days=1)
        return [(gift, "order_placed", gift.placed_at), (payment, "payment_authorized", gift.placed_at)]

    def pay(self) -> list[Change]:
        """Return a capture of a part or all of what is still to be captured of some order."""
        self._tick()
        order = self._some_order()
        if order is None:
            return self.place()
        payment = self.payments[order.order_id]
        open_minor = min(payment.authorized_minor, order.total_minor - order.cancelled_minor) - payment.captured_minor
        if open_minor <= 0:
            return self.place()
        amount = self.rng.choice([open_minor, open_minor, (open_minor + 1) // 2])
        capture = PaymentCapture(
            payment_capture_id=self.new_id(),
            amount_minor=amount,
            provider_reference=self.new_id(),
            captured_at=self.now,
        )
        payment = msgspec.structs.replace(
            payment,
            version=payment.version + 1,
            status=PaymentStatus.CAPTURED,
            captured_minor=payment.captured_minor + amount,
            captures=[*payment.captures, capture],
        )
        self.payments[order.order_id] = payment
        return [(payment, "payment_captured", self.now)]

    def cancel(self) -> list[Change]:
        """Return the cancellation of one unit of some line that nothing was captured for."""
        self._tick()
        order = self._some_order()
        if order is None or self.payments[order.order_id].captured_minor:
            return self.place()
        lines = [
            _cancelled(line, line.cancelled_quantity + 1)
            if line.cancelled_quantity + line.fulfilled_quantity < line.quantity
            else line
            for line in order.lines
        ]
        if lines == order.lines:
            return self.place()
        return [(self._next(order, lines), "order_cancelled", self.now)]

    def fulfill(self) -> list[Change]:
        """Return the fulfillment of everything open in some order, with the stock that left."""
        self._tick()
        order = self._some_order()
        if order is None:
            return self.place()
        still_open = [line for line in order.lines if line.quantity > line.cancelled_quantity + line.fulfilled_quantity]
        if not still_open:
            return self.place()
        shipped = FulfillmentState(
            merchant_id=order.merchant_id,
            version=1,
            fulfillment_id=self.new_id(),
            order_id=order.order_id,
            location_id="main",
            tracking_number=None,
            shipped_at=self.now,
            lines=[
                FulfillmentLine(
                    fulfillment_line_id=self.new_id(),
                    order_line_id=line.order_line_id,
                    quantity=line.quantity - line.cancelled_quantity - line.fulfilled_quantity,
                )
                for line in still_open
            ],
        )
        lines = [
            msgspec.structs.replace(line, fulfilled_quantity=line.quantity - line.cancelled_quantity)
            for line in order.lines
        ]
        moves = [
            self._movement(order.merchant_id, StockMovementKind.SHIPPED, -line.quantity, order.order_id)
            for line in shipped.lines
        ]
        return [
            (self._next(order, lines), "order_fulfilled", self.now),
            (shipped, "fulfillment_shipped", self.now),
            *((move, "stock_moved", self.now) for move in moves),
        ]

    def refund(self) -> list[Change]:
        """Return a refund of one unit: requested, and then completed or failed in the same transaction."""
        self._tick()
        order = self._some_order()
        if order is None:
            return self.place()
        payment = self.payments[order.order_id]
        line = self.rng.choice(order.lines)
        quantity, amount_before, tax_before = self.refunded.get(line.order_line_id, (0, 0, 0))
        amount = portion(line.total_minor, quantity + 1, line.quantity) - amount_before
        tax = portion(line.tax_minor, quantity + 1, line.quantity) - tax_before
        is_full = quantity + 1 + line.cancelled_quantity > line.quantity
        if is_full or amount <= 0 or amount > payment.captured_minor - payment.refunded_minor:
            return self.adjust()
        requested = self._requested(order, payment, line, amount, tax)
        if self.rng.random() < 0.2:
            failed = msgspec.structs.replace(
                requested, version=2, status=RefundStatus.FAILED, failure_reason="declined"
            )
            return [(requested, "refund_requested", self.now), (failed, "refund_failed", self.now)]
        completed = msgspec.structs.replace(
            requested, version=2, status=RefundStatus.COMPLETED, completed_at=self.now, provider_reference=self.new_id()
        )
        payment = msgspec.structs.replace(
            payment, version=payment.version + 1, refunded_minor=payment.refunded_minor + amount
        )
        self.refunded[line.order_line_id] = (quantity + 1, amount_before + amount, tax_before + tax)
        self.payments[order.order_id] = payment
        return [
            (requested, "refund_requested", self.now),
            (completed, "refund_completed", self.now),
            (payment, "payment_refunded", self.now),
        ]

    def adjust(self) -> list[Change]:
        """Return an adjustment with fractions of a minor unit, of either sign."""
        self._tick()
        merchant, currency, _, _ = self.rng.choice(self.merchants)
        amount, rounding = line_amount(1, self.rng.randint(-40_000_000, 20_000_000), currency)
        state = AdjustmentState(
            merchant_id=merchant,
            version=1,
            adjustment_id=self.new_id(),
            kind=AdjustmentKind.MANUAL,
            currency=currency,
            amount_minor=amount,
            rounding_micro=rounding,
            quantity=1,
            sku=None,
            customer_id=None,
            external_reference=None,
            reason="test",
            source="generator",
            adjusted_at=self.now,
        )
        if self.rng.random() < 0.5:
            state = msgspec.structs.replace(
                state,
                tax_minor=tax_of(amount, 200_000, is_inclusive=True),
                jurisdiction="GB",
                tax_category="standard",
                rate_ppm=200_000,
            )
        return [(state, "adjustment_booked", self.now)]

    def _tick(self) -> None:
        self.now += timedelta(minutes=self.rng.randint(1, 90))

    def _some_order(self) -> OrderState | None:
        return self.rng.choice(self.orders[-200:]) if self.orders else None

    def _next(self, order: OrderState, lines: list[OrderLine]) -> OrderState:
        changed = with_totals(msgspec.structs.replace(order, version=order.version + 1, lines=lines))
        self.orders[int(order.order_number) - 1] = changed
        return changed

    def _priced_lines(self, currency: str, is_inclusive: bool, rate: int) -> list[OrderLine]:
        kinds = [LineKind.GOODS] * self.rng.randint(1, 3) + [LineKind.SHIPPING] * self.rng.randint(0, 1)
        priced = []
        for number, kind in enumerate(kinds, 1):
            quantity = 1 if kind is LineKind.SHIPPING else self.rng.randint(1, 6)
            price = self.rng.choice([1_000, 850_000, 2_345_678, 4_950_000, 12_500_000])
            priced.append((number, kind, quantity, price, *line_amount(quantity, price, currency)))
        weights = [0 if kind is LineKind.SHIPPING else amount for _, kind, _, _, amount, _ in priced]
        discount = self.rng.choice([0, 0, sum(weights) // 10])
        shares = allocate(discount, weights) if discount else [0] * len(priced)
        lines = []
        for (number, kind, quantity, price, amount, rounding), share in zip(priced, shares, strict=True):
            drawn = self.rng.random()
            untaxed = DEPOSIT_TAX_CATEGORY if drawn < 0.1 else "zero"
            category, line_rate = (untaxed, 0) if drawn < 0.2 else ("standard", rate)
            tax = tax_of(amount - share, line_rate, is_inclusive=is_inclusive)
            total = amount - share + (0 if is_inclusive else tax)
            lines.append(
                OrderLine(
                    order_line_id=self.new_id(),
                    line_number=number,
                    kind=kind,
                    variant_id=None if kind is LineKind.SHIPPING else f"variant-{price}",
                    sku=f"SKU-{price}",
                    title="Thing",
                    quantity=quantity,
                    unit_price_micro=price,
                    price_source="catalog",
                    price_reason=None,
                    amount_minor=amount,
                    rounding_micro=rounding,
                    discount_minor=share,
                    jurisdiction=currency[:2],
                    tax_category=category,
                    rate_ppm=line_rate,
                    is_tax_inclusive=is_inclusive,
                    taxable_minor=total - tax,
                    tax_minor=tax,
                    total_minor=total,
                    cancelled_quantity=0,
                    cancelled_minor=0,
                    cancelled_tax_minor=0,
                    fulfilled_quantity=0,
                )
            )
        return lines

    def _discounts(self, amount_minor: int) -> list[OrderDiscount]:
        if not amount_minor:
            return []
        return [OrderDiscount(order_discount_id=self.new_id(), code="TEN", amount_minor=amount_minor)]

    def _reservation(self, order: OrderState, reservation_id: str) -> ReservationState:
        return ReservationState(
            merchant_id=order.merchant_id,
            version=1,
            reservation_id=reservation_id,
            order_id=order.order_id,
            status=ReservationStatus.HELD,
            expires_at=None,
            lines=[
                ReservationLine(
                    reservation_line_id=self.new_id(),
                    variant_id=line.variant_id,
                    location_id="main",
                    quantity=line.quantity,
                    consumed_quantity=0,
                    released_quantity=0,
                )
                for line in order.lines
                if line.variant_id is not None
            ],
        )

    def _requested(
        self, order: OrderState, payment: PaymentState, line: OrderLine, amount_minor: int, tax_minor: int
    ) -> RefundState:
        given_back = RefundLine(
            refund_line_id=self.new_id(),
            order_line_id=line.order_line_id,
            quantity=1,
            amount_minor=amount_minor,
            tax_minor=tax_minor,
            jurisdiction=line.jurisdiction,
            tax_category=line.tax_category,
            is_restocked=False,
        )
        return RefundState(
            merchant_id=order.merchant_id,
            version=1,
            refund_id=self.new_id(),
            order_id=order.order_id,
            payment_id=payment.payment_id,
            customer_id=order.customer_id,
            currency=order.currency,
            status=RefundStatus.REQUESTED,
            reason="broken",
            external_reference=None,
            amount_minor=amount_minor,
            tax_minor=tax_minor,
            provider_reference=None,
            failure_reason=None,
            requested_at=self.now,
            completed_at=None,
            lines=[given_back],
        )

    def _movement(
        self, merchant_id: str, kind: StockMovementKind, quantity: int, order_id: str | None
    ) -> StockMovementState:
        return StockMovementState(
            merchant_id=merchant_id,
            version=1,
            stock_movement_id=self.new_id(),
            variant_id="variant-1",
            location_id="main",
            kind=kind,
            quantity=quantity,
            reason="test",
            order_id=order_id,
            moved_at=self.now,
        )

    def _opening_of(self, merchant: str, currency: str, is_inclusive: bool, rate: int) -> list[Change]:
        rates = [TaxRate(jurisdiction=currency[:2], tax_category="standard", rate_ppm=rate)]
        shop = MerchantState(
            merchant_id=merchant,
            version=1,
            name=merchant.title(),
            currency=currency,
            is_active=True,
            is_tax_inclusive=is_inclusive,
            jurisdiction=currency[:2],
            shipping_fee_minor=495,
            free_shipping_from_minor=None,
            tax_rates=rates,
            registered_at=self.now,
        )
        product = ProductState(
            merchant_id=merchant,
            version=1,
            product_id=self.new_id(),
            title="Thing",
            kind=ProductKind.GOODS,
            tax_category="standard",
            is_active=True,
            variants=[Variant(variant_id=self.new_id(), sku="A", title="A", is_active=True, unit_price_micro=850_000)],
            brand="Maker",
            attributes=[Attribute(name="color", value="red")],
        )
        grant = Grant(
            grant_id=self.new_id(), grantor="plan:pro", level=2, granted_at=self.now, expires_at=None, revoked_at=None
        )
        held: dict[str, Any] = {
            "version": 1,
            "effective_level": 2,
            "effective_grant_id": grant.grant_id,
            "grants": [grant],
        }
        plan = MerchantEntitlementState(merchant_id=merchant, entitlement_id=self.new_id(), feature="reports", **held)
        club = CustomerEntitlementState(
            merchant_id=merchant, entitlement_id=self.new_id(), customer_id="ann", feature="returns", **held
        )
        passing = msgspec.structs.replace(
            grant, grant_id=self.new_id(), grantor="gift:1", level=3, expires_at=self.now + timedelta(days=1)
        )
        lasting = msgspec.structs.replace(grant, level=1)
        early = msgspec.structs.replace(
            club,
            entitlement_id=self.new_id(),
            feature="early",
            effective_level=3,
            effective_grant_id=passing.grant_id,
            grants=[lasting, passing],
        )
        return [
            (shop, "merchant_registered", self.now),
            (product, "product_upserted", self.now),
            (self._movement(merchant, StockMovementKind.RECEIVED, 1_000, None), "stock_moved", self.now),
            (plan, "merchant_entitlement_granted", self.now),
            (club, "customer_entitlement_granted", self.now),
            (early, "customer_entitlement_granted", self.now),
        ]


def events_of(pod: FakePod, changes: list[Change]) -> list[dict[str, object]]:
    """Return the changes as events of the pod's present cut."""
    return [
        pod.event(state, event_type=event_type, occurred_at=occurred_at) for state, event_type, occurred_at in changes
    ]


def _cancelled(line: OrderLine, quantity: int) -> OrderLine:
    return msgspec.structs.replace(
        line,
        cancelled_quantity=quantity,
        cancelled_minor=portion(line.total_minor, quantity, line.quantity),
        cancelled_tax_minor=portion(line.tax_minor, quantity, line.quantity),
    )


def with_totals(order: OrderState) -> OrderState:
    """Return the order with status and totals as its lines say."""
    goods = [line for line in order.lines if line.kind is not LineKind.SHIPPING]
    shipping = [line for line in order.lines if line.kind is LineKind.SHIPPING]
    lines = order.lines
    return msgspec.structs.replace(
        order,
        status=_status(lines),
        lines_minor=sum(line.amount_minor for line in goods),
        shipping_minor=sum(line.amount_minor for line in shipping),
        discount_minor=sum(line.discount_minor for line in lines),
        added_tax_minor=sum(line.tax_minor for line in lines if not line.is_tax_inclusive),
        tax_minor=sum(line.tax_minor for line in lines),
        rounding_micro=sum(line.rounding_micro for line in lines),
        total_minor=sum(line.total_minor for line in lines),
        cancelled_minor=sum(line.cancelled_minor for line in lines),
        cancelled_tax_minor=sum(line.cancelled_tax_minor for line in lines),
    )


def _status(lines: list[OrderLine]) -> OrderStatus:
    is_closed = all(line.cancelled_quantity + line.fulfilled_quantity == line.quantity for line in lines)
    fulfilled = sum(line.fulfilled_quantity for line in lines)
    if is_closed:
        return OrderStatus.FULFILLED if fulfilled else OrderStatus.CANCELLED
    return OrderStatus.PARTIALLY_FULFILLED if fulfilled else OrderStatus.PLACED
