"""Routes of carts: look, add, set a quantity, merge another cart in, check out.

A cart is named by its id, which a session gives (`api/routes/sessions.py`), and each change names its device. A cart
that nobody has put anything in is an empty one. A request that is repeated with its Idempotency-Key changes nothing.

Belongs here: these routes. Does not belong here: what a cart is (`oltp/domain/carts.py`), orders of given lines
(`api/routes/checkouts.py`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from api.calls import Answer, Call
from api.commands import COMMAND_SECONDS, REPLAYED
from api.declaring import Criticality, Handler, Route, Work
from api.paying import Checkout, check_payment, paid
from api.pods import Done
from api.roles import STOREFRONTS
from api.routes.checkouts import key_of, order_number_of
from contracts.carts import CART_LINES, CartKey, CartNumber, DeviceId
from contracts.errors import CartChangedError, CartUnavailableError, ConflictError, GatewayError, StackError
from contracts.limits import (
    AmountOrNoneMinor,
    CustomerId,
    OrderNumber,
    PaymentToken,
    Quantity,
    QuantityOrNone,
    Sku,
    StoredName,
    Uuid,
)
from oltp.carts.cart_requests import CartView
from oltp.carts.checkout import check_out as check_out_cart
from oltp.carts.checkout import price
from oltp.commands.check_out_cart import CheckOutCart, ConfirmedLine, PricedCart
from oltp.commands.place_order import PaidBy
from oltp.domain.cart_changes import ChangeKind, stopping
from oltp.domain.cart_codec import seen_of, seen_token
from oltp.domain.carts import quantities

SECONDS = 5.0


class CartQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Where the goods would come from; without it the cart has no prices."""

    location_id: StoredName | None = None


class AdditionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """More units of a SKU."""

    device_id: DeviceId
    sku: Sku
    quantity: Quantity


class QuantityBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many units of a SKU there shall be, in place of those that the sender has seen; 0 takes it out."""

    device_id: DeviceId
    sku: Sku
    quantity: QuantityOrNone
    seen: str | None = None
    """`seen` of the cart that the device shows; null: everything that is in the cart now."""


class MergeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cart that is merged in."""

    from_cart_id: Uuid


class CartCheckoutBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the shopper has confirmed, by whom, and how it is paid."""

    number: CartNumber
    """`number` of the cart that the shopper has confirmed."""
    lines: Annotated[list[ConfirmedLine], CART_LINES]
    total_minor: AmountOrNoneMinor
    location_id: StoredName
    customer_id: CustomerId | None = None
    order_number: OrderNumber | None = None
    payment_token: PaymentToken | None = None
    payment_method: PaidBy | None = None
    gift_card_id: Uuid | None = None


class CartLine(msgspec.Struct, frozen=True, kw_only=True):
    """A SKU in a cart."""

    sku: str
    quantity: int
    title: str | None = None
    unit_price_micro: int | None = None
    available: int | None = None
    """Units that can be had; null: not asked, or not kept in stock."""
    problem: ChangeKind | None = None
    """Why it cannot be ordered now; null: it can, or prices were not asked for."""


class CartShown(msgspec.Struct, frozen=True, kw_only=True):
    """A cart."""

    cart_id: str
    number: int
    """Grows by one when an order is placed from the cart."""
    lines: list[CartLine]
    total_minor: int | None
    """What an order would cost, with shipping and tax; null: nothing is in it, something stops it, or no prices."""
    seen: str
    """What this answer shows, to be sent back with a change that must not take what was added elsewhere."""
    is_complete: bool
    """False: the database is away for a moment, and an older part of the cart may be missing."""


def get_cart(call: Call) -> Answer:
    """Return a cart; with a location, at the prices and the stock of this moment."""
    key = _key(call)
    view = call.services.shoppers.carts.view(key)
    if call.query.location_id is None or not view.cart.lines:
        return Answer(value=_shown(key, view))
    try:
        priced = price(call.services.shoppers.carts, key, view.cart, call.query.location_id)
    except StackError:
        # The cart itself can be shown.
        return Answer(value=_shown(key, view))
    return Answer(value=_shown(key, view, priced))


def add_to_cart(call: Call) -> Answer:
    """Add units of a SKU. Whether it is sold, and for how much, the cart shows when it is read with a location."""
    key, body = _key(call), call.body
    view = call.services.shoppers.carts.add(
        key, body.device_id, body.sku, body.quantity, request_key=call.idempotency_key
    )
    return _changed(key, view)


def set_cart_quantity(call: Call) -> Answer:
    """Set the units of a SKU in place of those that the sender has seen; 0 takes it out.

    Two devices that set 3 and 5 at the same time leave 8, because neither has seen the other's.
    """
    key, body = _key(call), call.body
    view = call.services.shoppers.carts.set_quantity(
        key,
        body.device_id,
        body.sku,
        body.quantity,
        seen=None if body.seen is None else seen_of(body.seen),
        request_key=call.idempotency_key,
    )
    return _changed(key, view)


def merge_carts(call: Call) -> Answer:
    """Merge another cart of the merchant into this one, as at a sign-in. Repeated, it changes nothing."""
    key = _key(call)
    other = CartKey(merchant_id=call.merchant_id, cart_id=call.body.from_cart_id)
    return _changed(key, call.services.shoppers.carts.sign_in(other, key, request_key=call.idempotency_key))


def check_out(call: Call) -> Answer:
    """Turn a cart into an order, once, and pay it or wait for its money, as `POST /v1/checkouts` does.

    Prices, tax and stock are read again. When they are not what the shopper has confirmed, nothing is ordered: the
    problem `cart-changed` lists the changes and the new total. What another device adds meanwhile is in the next cart.
    """
    body: CartCheckoutBody = call.body
    check_payment(body)
    key = key_of(call.idempotency_key)
    command = CheckOutCart(
        merchant_id=call.merchant_id,
        cart_id=call.uuid("cart_id"),
        number=body.number,
        confirmed=body.lines,
        total_minor=body.total_minor,
        order_number=body.order_number or order_number_of(call.merchant_id, call.idempotency_key),
        customer_id=body.customer_id,
        location_id=body.location_id,
        payment_method=body.payment_method,
        payment_token=body.payment_token,
        gift_card_id=body.gift_card_id,
    )

    def ordered() -> Done:
        return call.services.pods.execute(command, idempotency_key=f"cart-checkout/{key}/order")

    placed = check_out_cart(call.services.shoppers.carts, command, ordered)
    return paid(call, placed, body, f"cart-checkout/{key}/payment")


def _key(call: Call) -> CartKey:
    return CartKey(merchant_id=call.merchant_id, cart_id=call.uuid("cart_id"))


def _changed(key: CartKey, view: CartView) -> Answer:
    """Return the cart after a change; of a repeated request the cart as it is now."""
    return Answer(value=_shown(key, view), headers={REPLAYED: "true"} if view.is_replayed else {})


def _shown(key: CartKey, view: CartView, priced: PricedCart | None = None) -> CartShown:
    return CartShown(
        cart_id=key.cart_id,
        number=view.cart.number,
        lines=[_line(sku, quantity, priced) for sku, quantity in quantities(view.cart).items()],
        total_minor=None if priced is None else priced.total_minor,
        seen=seen_token(view.cart.seen),
        is_complete=view.is_complete,
    )


def _line(sku: str, quantity: int, priced: PricedCart | None) -> CartLine:
    if priced is None:
        return CartLine(sku=sku, quantity=quantity)
    offer = priced.offers.get(sku)
    stop = stopping(sku, quantity, offer)
    return CartLine(
        sku=sku,
        quantity=quantity,
        title=None if offer is None else offer.title,
        unit_price_micro=None if offer is None else offer.unit_price_micro,
        available=None if offer is None else offer.available,
        problem=None if stop is None else stop.kind,
    )


def _change(name: str, path: str, summary: str, handler: Handler, body: type[msgspec.Struct]) -> Route:
    return Route(
        name=name,
        method="POST",
        path=f"/v1/carts/{{cart_id}}/{path}",
        summary=summary,
        handler=handler,
        roles=STOREFRONTS,
        criticality=Criticality.CART,
        work=Work.STOREFRONT,
        deadline_seconds=SECONDS,
        answer=CartShown,
        body=body,
        is_command=True,
        raises=(ConflictError, CartUnavailableError),
    )


ROUTES: tuple[Route, ...] = (
    Route(
        name="get_cart",
        method="GET",
        path="/v1/carts/{cart_id}",
        summary="A cart, with prices when a location is given",
        handler=get_cart,
        roles=STOREFRONTS,
        criticality=Criticality.CART,
        work=Work.STOREFRONT,
        deadline_seconds=SECONDS,
        answer=CartShown,
        query=CartQuery,
        raises=(CartUnavailableError,),
    ),
    _change("add_to_cart", "additions", "Add units to a cart", add_to_cart, AdditionBody),
    _change("set_cart_quantity", "quantities", "Set or take out a SKU of a cart", set_cart_quantity, QuantityBody),
    _change("merge_carts", "merges", "Merge another cart in", merge_carts, MergeBody),
    Route(
        name="check_out_cart",
        method="POST",
        path="/v1/carts/{cart_id}/checkouts",
        summary="Turn a cart into an order and pay it, or wait for its money",
        handler=check_out,
        roles=STOREFRONTS,
        criticality=Criticality.CHECKOUT,
        work=Work.CHECKOUT,
        deadline_seconds=COMMAND_SECONDS,
        answer=Checkout,
        status=201,
        body=CartCheckoutBody,
        is_command=True,
        raises=(CartChangedError, ConflictError, GatewayError),
    ),
)
