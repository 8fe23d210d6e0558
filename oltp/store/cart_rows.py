"""A cart's row inside a command's transaction: locked, and closed with the order that it became.

Belongs here: these statements. Does not belong here: writing carts through (`oltp/carts/durable_carts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contracts.errors import ConflictError
from oltp.carts.actors import CHECKOUT, actor_of
from oltp.domain.cart_codec import decoded, encoded
from oltp.domain.carts import EMPTY, MILLISECONDS, Cart, close
from oltp.transaction import CommandTransaction

_LOCK = """
select state::text, incarnation from oltp.carts where merchant_id = %s and cart_id = %s for update
"""
_ORDER = "select order_id::text from oltp.cart_orders where merchant_id = %s and cart_id = %s and number = %s"
_CLOSE = """
update oltp.carts set
    number = %(number)s, vector = %(state)s::jsonb -> 'seen', state = %(state)s::jsonb, is_ahead = true,
    touched_at = to_timestamp(%(touched_ms)s / 1000.0), written_at = clock_timestamp()
where merchant_id = %(merchant_id)s and cart_id = %(cart_id)s
"""
_ORDERED = """
insert into oltp.cart_orders (merchant_id, cart_id, number, order_id, ordered_at) values (%s, %s, %s, %s, %s)
"""
_AVAILABLE = """
select variant_id::text, on_hand - reserved from oltp.stock_levels
where merchant_id = %s and location_id = %s and variant_id = any(%s::uuid[])
"""


def read_cart(tx: CommandTransaction, merchant_id: str, cart_id: str) -> tuple[Cart, str]:
    """Lock a cart's row; return the cart and the row's incarnation. An empty cart when there is no row."""
    row = tx.query(_LOCK, (merchant_id, cart_id)).fetchone()
    return (EMPTY, "") if row is None else (decoded(row[0]), row[1])


def require_open(tx: CommandTransaction, merchant_id: str, cart_id: str, cart: Cart, number: int) -> None:
    """Raise ConflictError unless the cart still has this number; the sentence names the order that it became."""
    if cart.number == number:
        return
    row = tx.query(_ORDER, (merchant_id, cart_id, number)).fetchone()
    if row is not None:
        raise ConflictError(f"Cart {number} was ordered already, as order {row[0]}; the open one is {cart.number}.")
    raise ConflictError(f"There is no open cart {number}; the open one is {cart.number}.")


def close_cart(
    tx: CommandTransaction, merchant_id: str, cart_id: str, cart: Cart, incarnation: str, order_id: str
) -> Cart:
    """Close a locked cart with the order that it became; return the next one, which is empty here."""
    after = close(cart, actor_of(CHECKOUT, incarnation), int(tx.occurred_at.timestamp() * MILLISECONDS))
    tx.query(_ORDERED, (merchant_id, cart_id, cart.number, order_id, tx.occurred_at))
    values = {
        "merchant_id": merchant_id,
        "cart_id": cart_id,
        "number": after.number,
        "state": encoded(after).decode(),
        "touched_ms": after.touched_ms,
    }
    tx.query(_CLOSE, values)
    return after


def available(
    tx: CommandTransaction, merchant_id: str, location_id: str, variant_ids: list[str]
) -> Callable[[], Mapping[str, int]]:
    """Ask for the units at a location that are neither ordered nor reserved; the returned function gives them."""
    cursor = tx.query(_AVAILABLE, (merchant_id, location_id, variant_ids))
    return lambda: {variant_id: int(units) for variant_id, units in cursor.fetchall()}
