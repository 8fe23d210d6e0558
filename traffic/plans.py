"""The plans of generated traffic, drawn from a seed in advance: orders with all their events, and side events.

Belongs here: pure drawing, with the statistics of real trade (`calibration.py`). Does not belong here: executing plans
(`journeys.py`).

Orders have an eighth of the lines of real orders (3 instead of 24 on average), so that 2,000 of them take seconds; all
other distributions are the real ones. Credit notes become refunds and cancellations.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import TypeVar

import msgspec

from contracts.events.product import ProductKind
from traffic.calibration import PERMYRIAD, REAL, draw
from traffic.shops import SHOP_SHARES, SHOPS, Shop, catalog, weights

LINES_DIVISOR = 8
UNITS_UP_TO_PERMYRIAD = 9_950
LINES_UP_TO_PERMYRIAD = 9_990
ORDERS_PER_CUSTOMER = 4
CUSTOMER_FIRST = 10_000
DISCOUNT_PERCENT = 10


Fate = TypeVar("Fate", bound=StrEnum)


class Payment(StrEnum):
    """How an order is paid."""

    PAID = "paid"
    IN_TWO = "in_two"
    """Captured in two parts."""
    RETRIED = "retried"
    """The first card is declined, the second one pays."""
    DECLINED = "declined"
    """All cards are declined; the order is cancelled."""
    AUTHORIZED = "authorized"
    """Not captured yet."""
    GIFT_CARD = "gift_card"
    """With a gift card that holds more than it costs."""
    SPLIT = "split"
    """Half with a gift card, the rest with another card."""
    TRANSFER = "transfer"
    """By a bank transfer that comes as a whole."""
    TRANSFER_IN_TWO = "transfer_in_two"
    """By two bank transfers."""
    TRANSFER_ABOVE = "transfer_above"
    """By a bank transfer of more than is owed; some of the rest goes back."""
    TRANSFER_AWAITED = "transfer_awaited"
    """By a bank transfer that has not come yet."""
    DEBIT = "debit"
    """By a direct debit that the bank pays."""
    DEBIT_FAILED = "debit_failed"
    """By a direct debit that the bank does not pay; the order ends."""
    DEBIT_RETURNED = "debit_returned"
    """By a direct debit that the bank takes back after the goods were shipped."""


LATER = (
    Payment.TRANSFER,
    Payment.TRANSFER_IN_TWO,
    Payment.TRANSFER_ABOVE,
    Payment.TRANSFER_AWAITED,
    Payment.DEBIT,
    Payment.DEBIT_FAILED,
    Payment.DEBIT_RETURNED,
)
"""Payments whose money comes later."""


class Shipment(StrEnum):
    """How an order is shipped."""

    WHOLE = "whole"
    IN_TWO = "in_two"
    PART = "part"
    """The rest is still open."""
    NONE = "none"


class Cancellation(StrEnum):
    """Which units are cancelled before anything is captured."""

    NONE = "none"
    PART = "part"
    WHOLE = "whole"


class Refund(StrEnum):
    """What is refunded after the capture."""

    NONE = "none"
    COMPLETED = "completed"
    ONTO_GIFT_CARD = "onto_gift_card"
    """Completed, onto a card that comes with it."""
    REQUESTED = "requested"
    FAILED = "failed"


PAYMENTS = {
    Payment.PAID: 8_400,
    Payment.TRANSFER: 60,
    Payment.TRANSFER_IN_TWO: 30,
    Payment.TRANSFER_ABOVE: 30,
    Payment.TRANSFER_AWAITED: 60,
    Payment.DEBIT: 60,
    Payment.DEBIT_FAILED: 30,
    Payment.DEBIT_RETURNED: 30,
    Payment.GIFT_CARD: 100,
    Payment.SPLIT: 100,
    Payment.RETRIED: 300,
    Payment.IN_TWO: 300,
    Payment.AUTHORIZED: 300,
    Payment.DECLINED: 200,
}
SHIPMENTS = {Shipment.WHOLE: 8_700, Shipment.IN_TWO: 500, Shipment.PART: 400, Shipment.NONE: 400}
CANCELLATIONS = {Cancellation.NONE: 9_500, Cancellation.PART: 300, Cancellation.WHOLE: 200}
REFUNDS = {
    Refund.NONE: 8_600,
    Refund.COMPLETED: 1_150,
    Refund.ONTO_GIFT_CARD: 50,
    Refund.REQUESTED: 100,
    Refund.FAILED: 100,
}
"""Together with CANCELLATIONS: a credit for about one order in five, as in the real data."""

RESERVED_FIRST = 500
WITH_DISCOUNT = 800
ABANDONED = 300
PRICE_CHANGES = 200
LOYALTY_GRANTS = 200
GIFT_CARDS = 100
"""Of 10,000 orders."""


class LinePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One line, ordered at the catalog price."""

    sku: str
    quantity: int


class OrderPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One order and all its events."""

    merchant_id: str
    order_number: str
    customer_id: str | None
    lines: tuple[LinePlan, ...]
    is_free: bool
    """Free samples: every line has price 0, and shipping is free."""
    discount_minor: int
    is_reserved_first: bool
    payment: Payment
    shipment: Shipment
    cancellation: Cancellation
    refund: Refund
    is_restocked: bool


class SidePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A side event next to the orders: `what` is write_off, abandon, price_change or loyalty."""

    merchant_id: str
    name: str
    """A unique name; the idempotency key is built from it."""
    what: str
    sku: str
    quantity: int
    """Units; for a price change the new price in minor units, for a loyalty grant its level."""
    customer_id: str | None = None


class OrderSource:
    """Draws orders and side plans from one random source; the same random source gives the same plans."""

    def __init__(self, rng: random.Random, *, customers: int) -> None:
        self._rng = rng
        self._customers = max(1, customers)

    def order(self, order_number: str) -> OrderPlan:
        """Return the next order."""
        rng = self._rng
        shop = rng.choices(SHOPS, SHOP_SHARES)[0]
        lines = self._lines(shop)
        payment = _pick(rng, PAYMENTS)
        is_free = _chance(rng, REAL.free_orders)
        has_discount = _chance(rng, WITH_DISCOUNT) and not is_free
        return OrderPlan(
            merchant_id=shop.merchant_id,
            order_number=order_number,
            customer_id=None if _chance(rng, REAL.guests) else self._customer(),
            lines=lines,
            is_free=is_free,
            discount_minor=_goods_minor(shop, lines) * DISCOUNT_PERCENT // 100 if has_discount else 0,
            is_reserved_first=_chance(rng, RESERVED_FIRST),
            payment=payment,
            shipment=_pick(rng, SHIPMENTS),
            cancellation=_pick(rng, CANCELLATIONS),
            refund=_pick(rng, REFUNDS),
            is_restocked=rng.random() < 0.5,
        )

    def beside(self, name: str) -> list[SidePlan]:
        """Return the side events of one order; usually none."""
        rng = self._rng
        plans = []
        shop = rng.choices(SHOPS, SHOP_SHARES)[0]
        goods = catalog(shop)[:-1]
        item = rng.choice(goods)
        for what, share in (("write_off", REAL.write_offs), ("abandon", ABANDONED), ("price_change", PRICE_CHANGES)):
            if _chance(rng, share):
                # A new price differs by at most a tenth from the catalog price, so that no discount exceeds its goods.
                is_price = what == "price_change"
                quantity = item.unit_price_minor * rng.randint(90, 110) // 100 if is_price else rng.randint(1, 5)
                plans.append(
                    SidePlan(
                        merchant_id=shop.merchant_id, name=f"{name}/{what}", what=what, sku=item.sku, quantity=quantity
                    )
                )
        if _chance(rng, LOYALTY_GRANTS):
            plans.append(
                SidePlan(
                    merchant_id=shop.merchant_id,
                    name=f"{name}/loyalty",
                    what="loyalty",
                    sku="",
                    quantity=rng.randint(1, 3),
                    customer_id=self._customer(),
                )
            )
        if _chance(rng, GIFT_CARDS):
            amount_minor = 1_000 * rng.randint(1, 5)
            plans.append(
                SidePlan(
                    merchant_id=shop.merchant_id, name=f"{name}/card", what="gift_card", sku="", quantity=amount_minor
                )
            )
        return plans

    def _customer(self) -> str:
        # Use the smaller of two draws, so that some customers order much more often than others.
        number = min(self._rng.randrange(self._customers), self._rng.randrange(self._customers))
        return f"{CUSTOMER_FIRST + number}"

    def _lines(self, shop: Shop) -> tuple[LinePlan, ...]:
        rng = self._rng
        count = max(1, draw(REAL.lines_per_order, rng, up_to=LINES_UP_TO_PERMYRIAD) // LINES_DIVISOR)
        items = rng.choices(catalog(shop), weights(shop), k=count)
        return tuple(
            LinePlan(sku=item.sku, quantity=1 if item.kind is ProductKind.SERVICE else _units(rng)) for item in items
        )


def units_needed(orders: list[OrderPlan], beside: list[SidePlan]) -> dict[str, dict[str, int]]:
    """Return the largest number of units that the plans need, by merchant id and SKU."""
    needed: dict[str, dict[str, int]] = {}
    takers = [(order.merchant_id, line.sku, line.quantity) for order in orders for line in order.lines]
    takers += [(plan.merchant_id, plan.sku, plan.quantity) for plan in beside if plan.what in ("write_off", "abandon")]
    for merchant_id, sku, quantity in takers:
        if sku != "WRAP":
            units = needed.setdefault(merchant_id, {})
            units[sku] = units.get(sku, 0) + quantity
    return needed


def _units(rng: random.Random) -> int:
    return draw(REAL.units_per_line, rng, up_to=UNITS_UP_TO_PERMYRIAD)


def _goods_minor(shop: Shop, lines: tuple[LinePlan, ...]) -> int:
    prices = {item.sku: item.unit_price_minor for item in catalog(shop)}
    return sum(prices[line.sku] * line.quantity for line in lines)


def _chance(rng: random.Random, permyriad: int) -> bool:
    return rng.randrange(PERMYRIAD) < permyriad


def _pick(rng: random.Random, shares: dict[Fate, int]) -> Fate:
    return rng.choices(list(shares), list(shares.values()))[0]
