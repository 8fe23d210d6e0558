"""From a cart to an order: written through first, ordered in its pod, and told to Valkey after.

If we are killed after the order, Valkey learns of it from the row that is marked as ahead (`writer.py`). Until then a
device may see what is ordered already; a checkout of it is refused by the cart's number.

Belongs here: these three steps. Does not belong here: the order (`oltp/commands/check_out_cart.py`).
"""

from __future__ import annotations

import logging
from contextlib import suppress

from contracts.carts import CartKey
from contracts.errors import CartUnavailableError, ConflictError
from contracts.events.order import OrderState
from oltp.carts.cart_requests import Carts
from oltp.carts.durable_carts import DurableCarts
from oltp.commands.check_out_cart import CheckOutCart, PricedCart, quote_cart
from oltp.commands.execute import execute
from oltp.domain.carts import Cart, quantities

_log = logging.getLogger("tieout.carts")


def price(carts: Carts, key: CartKey, cart: Cart, location_id: str) -> PricedCart:
    """Return what a cart would cost now, and what keeps it from being ordered."""
    return quote_cart(carts.pod_of(key.merchant_id), key.merchant_id, quantities(cart), location_id)


def check_out(carts: Carts, command: CheckOutCart, *, idempotency_key: str) -> OrderState:
    """Order a cart, once. Raises what `CheckOutCart` raises, and PodAwayError when the pod cannot be reached."""
    key = CartKey(merchant_id=command.merchant_id, cart_id=command.cart_id)
    pod = carts.pod_of(key.merchant_id)
    # A full memory or an unreadable state in Valkey does not keep the pod from selling what it has.
    with suppress(CartUnavailableError):
        carts.write_through(key)
    order = execute(pod, command, idempotency_key=idempotency_key)
    try:
        durable = DurableCarts(pod=pod, age_days=carts.age_days).load(key)
        if durable is not None:
            carts.merge(key, durable)
    except (CartUnavailableError, ConflictError) as error:
        _log.warning("Valkey learns later that a cart was ordered: %s", error)
    return order
