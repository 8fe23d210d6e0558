"""Check out a cart: it becomes one order, and is closed in the order's own transaction.

The cart's row is locked and must have the number that the caller names; the order takes its number for good. So a cart
becomes an order once, however often and from how many devices it is asked for. Prices, taxes and stock are read again.
What differs from what the shopper has confirmed is told (CartChangedError) and nothing is written: the shopper confirms
the new total, or changes the cart, and sends the command again.

An addition that is not in the row yet is not in the order. Its dot is not seen by the closed cart, so it is in the next
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec

from contracts.carts import CART_LINES, CartNumber
from contracts.errors import CartChangedError, ConflictError
from contracts.events.order import OrderState
from contracts.events.product import ProductKind
from contracts.limits import (
    AmountOrNoneMinor,
    CustomerId,
    OrderNumber,
    PaymentToken,
    Quantity,
    Source,
    StoredName,
    UnitPriceMicro,
    Uuid,
)
from contracts.text import counted
from oltp.commands.execute import Command, CommandPod, open_transaction
from oltp.commands.place_order import Draft, OrderLineInput, PaidBy, PlaceOrder, drafted, place
from oltp.domain.cart_changes import STOPS, CartChange, ChangeKind, Confirmed, Offer, changes_of, stopping
from oltp.domain.carts import quantities
from oltp.store.cart_rows import available, close_cart, read_cart, require_open
from oltp.store.sales import sellables
from oltp.transaction import CommandTransaction


class ConfirmedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the cart as the shopper saw it."""

    sku: StoredName
    quantity: Quantity
    unit_price_micro: UnitPriceMicro


class CheckOutCart(Command[OrderState], frozen=True, kw_only=True):
    """Order what is in a cart, at the prices and for the total that the shopper has confirmed.

    `payment_method`, `payment_token` and `gift_card_id` are only compared: a repeated key must name the same ones.
    """

    COMPARED_LATER: ClassVar[frozenset[str]] = frozenset({"payment_token", "gift_card_id"})
    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"payment_method", *COMPARED_LATER})

    cart_id: Uuid
    number: CartNumber
    confirmed: Annotated[list[ConfirmedLine], CART_LINES]
    total_minor: AmountOrNoneMinor
    order_number: OrderNumber
    customer_id: CustomerId | None
    location_id: StoredName
    source: Source = "storefront"
    order_id: Uuid | None = None
    payment_method: PaidBy | None = None
    payment_token: PaymentToken | None = None
    gift_card_id: Uuid | None = None

    def run(self, tx: CommandTransaction) -> OrderState:
        """Return the order. Raises CartChangedError, ConflictError when the cart is closed or empty, or a subclass."""
        cart, incarnation = read_cart(tx, self.merchant_id, self.cart_id)
        require_open(tx, self.merchant_id, self.cart_id, cart, self.number)
        held = quantities(cart)
        if not held:
            raise ConflictError("The cart is empty.")
        priced = price_cart(tx, _order_of(self, held), held)
        confirmed = {
            line.sku: Confirmed(quantity=line.quantity, unit_price_micro=line.unit_price_micro)
            for line in self.confirmed
        }
        changes = [*changes_of(held, confirmed, priced.offers), *self._total_change(priced)]
        if changes or priced.draft is None:
            raise _told(changes, priced)
        order = place(tx, priced.command, priced.draft)
        close_cart(tx, self.merchant_id, self.cart_id, cart, incarnation, order.order_id)
        return order

    def _total_change(self, priced: PricedCart) -> list[CartChange]:
        if priced.total_minor in (None, self.total_minor):
            return []
        return [
            CartChange(kind=ChangeKind.TOTAL, sku=None, confirmed=self.total_minor, now=priced.total_minor),
        ]


@dataclass(frozen=True, kw_only=True)
class PricedCart:
    """What is in a cart with its present prices, as an order that is not written."""

    offers: Mapping[str, Offer]
    stops: tuple[CartChange, ...]
    """What keeps the cart from being ordered."""
    command: PlaceOrder
    draft: Draft | None
    """None while something stops it, and for an empty cart."""

    @property
    def total_minor(self) -> int | None:
        """What the order would cost."""
        return None if self.draft is None else self.draft.order.total_minor


def price_cart(tx: CommandTransaction, command: PlaceOrder, held: Mapping[str, int]) -> PricedCart:
    """Read prices and stock of what is in a cart, and draft the order of it."""
    found = sellables(tx, command.merchant_id, held)()
    variant_ids = [item.variant_id for item in found.values() if item.kind is ProductKind.GOODS]
    units = available(tx, command.merchant_id, command.location_id, variant_ids)()
    offers = {
        sku: Offer(
            title=item.title,
            is_active=item.is_active,
            unit_price_micro=item.unit_price_micro,
            available=units.get(item.variant_id, 0) if item.kind is ProductKind.GOODS else None,
        )
        for sku, item in found.items()
    }
    stops = tuple(stop for sku, quantity in held.items() if (stop := stopping(sku, quantity, offers.get(sku))))
    draft = drafted(tx, command) if held and not stops else None
    return PricedCart(offers=offers, stops=stops, command=command, draft=draft)


def quote_cart(pod: CommandPod, merchant_id: str, held: Mapping[str, int], location_id: str) -> PricedCart:
    """Return what a cart would cost now; nothing is written or reserved."""
    lines = [OrderLineInput(sku=sku, quantity=quantity) for sku, quantity in held.items()]
    command = PlaceOrder(
        merchant_id=merchant_id, order_number="quote", customer_id=None, location_id=location_id, lines=lines
    )
    with open_transaction(pod, command, "quote", None) as tx:
        return price_cart(tx, command, held)


def _order_of(command: CheckOutCart, held: Mapping[str, int]) -> PlaceOrder:
    return PlaceOrder(
        merchant_id=command.merchant_id,
        order_number=command.order_number,
        customer_id=command.customer_id,
        location_id=command.location_id,
        lines=[OrderLineInput(sku=sku, quantity=quantity) for sku, quantity in held.items()],
        source=command.source,
        order_id=command.order_id,
    )


def _told(changes: list[CartChange], priced: PricedCart) -> CartChangedError:
    what = counted(len(changes), "thing of the cart has changed", "things of the cart have changed")
    if any(change.kind in STOPS for change in changes):
        advice = "change the cart, then confirm what it costs"
    else:
        advice = "confirm the new total, then check out again"
    return CartChangedError(
        f"{what} since it was confirmed; {advice}.",
        changes=[change.as_values() for change in changes],
        total_minor=priced.total_minor,
    )
