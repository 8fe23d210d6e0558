"""The checkout: an order of given lines is placed, its goods are held, and it is paid or its money is waited for.

Belongs here: putting the two commands together, and reservations before a checkout. Does not belong here: ways of
paying (`api/paying.py`); prices and stock, which the commands read again from OLTP whatever a storefront shows.
"""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from typing import Annotated

import msgspec

from api.calls import Answer, Call
from api.commands import COMMAND_SECONDS, command_route
from api.declaring import Criticality, Route, Work
from api.paying import Checkout, check_payment, paid, payment_of
from api.roles import STOREFRONTS
from contracts.errors import ConflictError, GatewayError, InsufficientStockError
from contracts.limits import LINES, CustomerId, OrderNumber, PaymentToken, Quantity, StoredName, Uuid
from oltp.commands.place_order import OrderLineInput, PaidBy, PlaceOrder
from oltp.commands.release_reservation import ReleaseReservation
from oltp.commands.reserve_stock import ReserveStock

WHOLE_KEY_CHARACTERS_MAX = 200
"""A longer key is used by its hash, because the keys of both commands must fit, too."""


class CheckoutLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of one SKU; the price is the catalog's at this moment."""

    sku: StoredName
    quantity: Quantity


class CheckoutBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is bought, by whom, and how it is paid."""

    lines: Annotated[list[CheckoutLine], LINES]
    location_id: StoredName
    """The location whose stock is held."""
    customer_id: CustomerId | None = None
    """The merchant's own id of the customer; null: a guest."""
    order_number: OrderNumber | None = None
    """The merchant's own number; null: one is made, the same for a repeated request."""
    reservation_id: Uuid | None = None
    """A reservation of exactly these goods, which the order takes over."""
    payment_token: PaymentToken | None = None
    """The provider's token for the customer's card or, of a direct debit, for the mandate; null without
    `payment_method`: nothing is authorized now."""
    payment_method: PaidBy | None = None
    """How it is paid; null: by a card if there is a token. A bank transfer needs neither token nor gift card."""
    gift_card_id: Uuid | None = None
    """The gift card that pays, wholly or in part."""


async def check_out(call: Call) -> Answer:
    """Place an order at the prices of this moment, hold its goods, and pay it or wait for its money.

    With `payment_method`, `due` of the answer says what is to be done: which amount the customer transfers to which
    account, with which reference and until when; or what is not paid. A declined card or a gift card that cannot pay is
    no error: the order stands, and is paid in another way, e.g. by `authorize_payment`. When the provider does not
    answer, repeat the request with the same Idempotency-Key: the order is placed once, and the payment goes on.
    """
    body: CheckoutBody = call.body
    check_payment(body)
    key = key_of(call.idempotency_key)
    placed = await call.services.gathered.execute(
        _order(call, body), idempotency_key=f"checkout/{key}/order", criticality=call.route.criticality
    )
    pay = partial(paid, call, placed, body, f"checkout/{key}/payment")
    if payment_of(placed.answer, body) is None and not placed.is_replayed:
        return pay()
    return await call.services.executors.run(call.route.work, pay, COMMAND_SECONDS, call.route.criticality)


def key_of(idempotency_key: str) -> str:
    """Return a key from which the keys of both commands are made."""
    if len(idempotency_key) > WHOLE_KEY_CHARACTERS_MAX:
        return hashlib.sha256(idempotency_key.encode()).hexdigest()
    return idempotency_key


def _order(call: Call, body: CheckoutBody) -> PlaceOrder:
    return PlaceOrder(
        merchant_id=call.merchant_id,
        order_number=body.order_number or order_number_of(call.merchant_id, call.idempotency_key),
        customer_id=body.customer_id,
        location_id=body.location_id,
        lines=[OrderLineInput(sku=line.sku, quantity=line.quantity) for line in body.lines],
        reservation_id=body.reservation_id,
        payment_method=body.payment_method,
        payment_token=body.payment_token,
        gift_card_id=body.gift_card_id,
    )


def order_number_of(merchant_id: str, idempotency_key: str) -> str:
    """Return a number that follows from the key, so that a repeated request asks for the same order."""
    digest = hashlib.sha256(f"{merchant_id}/{idempotency_key}".encode()).digest()
    return f"W{base64.b32encode(digest[:10]).decode()}"


ROUTES: tuple[Route, ...] = (
    Route(
        name="check_out",
        method="POST",
        path="/v1/checkouts",
        summary="Place an order and pay it, or wait for its money",
        handler=check_out,
        roles=STOREFRONTS,
        criticality=Criticality.CHECKOUT,
        work=Work.CHECKOUT,
        deadline_seconds=COMMAND_SECONDS,
        answer=Checkout,
        status=201,
        body=CheckoutBody,
        is_command=True,
        raises=(ConflictError, InsufficientStockError, GatewayError),
    ),
    command_route(
        "POST",
        "/v1/reservations",
        ReserveStock,
        "reserve_stock",
        roles=STOREFRONTS,
        work=Work.CHECKOUT,
        criticality=Criticality.CHECKOUT,
        status=201,
        raises=(InsufficientStockError,),
    ),
    command_route(
        "POST",
        "/v1/reservations/{reservation_id}/releases",
        ReleaseReservation,
        "release_reservation",
        roles=STOREFRONTS,
        work=Work.CHECKOUT,
        criticality=Criticality.CART,
    ),
)
