"""From a cart to an order: written through first, ordered in its pod, and told to Valkey after.

If we are killed after the order, Valkey learns of it from the row that is marked as ahead (`writer.py`). Until then a
device may see what is ordered already; a checkout of it is refused by the cart's number.

Belongs here: these three steps. Does not belong here: the order (`oltp/commands/check_out_cart.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from contracts.carts import CartKey
from contracts.errors import CartUnavailableError, ConflictError
from oltp.carts.cart_requests import Carts
from oltp.carts.durable_carts import DurableCarts
from oltp.commands.check_out_cart import CheckOutCart, PricedCart, quote_cart
from oltp.domain.carts import Cart, quantities

Answer = TypeVar("Answer")

_log = logging.getLogger("tieout.carts")


def price(carts: Carts, key: CartKey, cart: Cart, location_id: str) -> PricedCart:
    """Return what a cart would cost now, and what keeps it from being ordered."""
    return quote_cart(carts.pod_of(key.merchant_id), key.merchant_id, quantities(cart), location_id)


def check_out(carts: Carts, command: CheckOutCart, execute: Callable[[], Answer]) -> Answer:
    """Order a cart, once: `execute` runs the command in its pod. Raises what that raises."""
    key = CartKey(merchant_id=command.merchant_id, cart_id=command.cart_id)
    # A full memory or an unreadable state in Valkey does not keep the pod from selling what it has.
    with suppress(CartUnavailableError):
        carts.write_through(key)
    answer = execute()
    try:
        durable = DurableCarts(pod=carts.pod_of(key.merchant_id), age_days=carts.age_days).load(key)
        if durable is not None:
            carts.merge(key, durable)
    except (CartUnavailableError, ConflictError) as error:
        _log.warning("Valkey learns later that a cart was ordered: %s", error)
    return answer
