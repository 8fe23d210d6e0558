"""A cart as a value that merges: additions that commute, removals that take what they have seen.

    {sku: {(actor, n): quantity}} and a version vector {actor: n}

Every change of a cart is the next event of one *actor*: a device at one place where the cart is written
(`oltp/carts/actors.py`). An actor numbers its events 1, 2, 3 without gaps. An addition is stored under its event's
name (actor, n), its *dot*. A removal takes exactly the dots that its *seen* vector covers, so it never takes an
addition that its sender did not know of. Setting a quantity is such a removal and one addition, in one event.

`merge` keeps a dot that both sides have, or that one side has and the other has never seen; so a dot that one side has
seen and no longer has was removed there. It is commutative, associative and idempotent: whoever merges which states in
which order, and however often, gets the same cart. So every repair of a cart is a merge. Equal vectors mean equal
carts, because a vector names the events that a state contains. (The algorithm is the optimized OR-set of Bieniusa et
al., 2012, with a quantity for each dot.)

An entry per device with a running sum would be smaller, and wrong: the phone adds 1, the laptop reads, the phone adds
1, the laptop removes; the phone's second unit must stay, and a sum does not know which unit was seen.

What may surprise: two devices that set 3 and 5 at the same time leave 8, because neither has seen the other's.

Belongs here: the value, its changes, its limits. Does not belong here: bytes (`cart_codec.py`), stores (`oltp/carts/`),
prices and orders (`oltp/commands/check_out_cart.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from contracts.carts import CART_ACTORS, CART_DOTS, CART_LINES, CART_NUMBER
from contracts.errors import ConflictError
from contracts.limits import QUANTITY
from contracts.text import visible

Dot = tuple[str, int]
"""The name of one event: its actor, and its number among the actor's events, from 1."""
Vector = Mapping[str, int]
"""Actor -> number of its newest event that is known; every earlier one is known, too."""
Dots = Mapping[Dot, int]
"""The additions of one SKU: dot -> quantity."""


@dataclass(frozen=True, kw_only=True)
class Cart:
    """One state of a cart. SKUs without a dot are not in `lines`."""

    lines: Mapping[str, Dots] = field(default_factory=dict)
    seen: Vector = field(default_factory=dict)
    number: int = 1
    """Grows by one when an order is placed from the cart: what is in it now will be its number-th order."""
    touched_ms: int = 0
    """When it was changed last, in milliseconds since 1970 UTC; it expires by this."""


EMPTY = Cart()
MILLISECONDS = 1_000


def is_expired(cart: Cart, now_ms: int, age_days: int) -> bool:
    """Return whether nobody has changed the cart for so long that it counts as empty, wherever it is still stored.

    This follows from the cart and the time alone, so an old state that arrives late cannot bring the cart back.
    """
    return 0 < cart.touched_ms < now_ms - age_days * 86_400 * MILLISECONDS


def covers(seen: Vector, dot: Dot) -> bool:
    """Return whether a vector knows of an event."""
    actor, n = dot
    return n <= seen.get(actor, 0)


def quantities(cart: Cart) -> dict[str, int]:
    """Return the units by SKU, in the order of SKUs."""
    return {sku: sum(cart.lines[sku].values()) for sku in sorted(cart.lines)}


def dots_of(cart: Cart) -> int:
    """Return how many additions the cart holds apart."""
    return sum(map(len, cart.lines.values()))


def merge(one: Cart, other: Cart) -> Cart:
    """Return the cart that contains what happened to either."""
    lines = {}
    for sku in one.lines.keys() | other.lines.keys():
        dots = _merged(one.lines.get(sku, {}), other.seen, other.lines.get(sku, {}), one.seen)
        if dots:
            lines[sku] = dots
    return Cart(
        lines=lines,
        seen=joined(one.seen, other.seen),
        number=max(one.number, other.number),
        touched_ms=max(one.touched_ms, other.touched_ms),
    )


def joined(one: Vector, other: Vector) -> Vector:
    """Return the vector that knows what either knows."""
    return {actor: max(one.get(actor, 0), other.get(actor, 0)) for actor in one.keys() | other.keys()}


def contains(cart: Cart, other: Cart) -> bool:
    """Return whether everything that happened to `other` happened to `cart`, so that merging it changes nothing."""
    return cart.number >= other.number and all(covers(cart.seen, dot) for dot in other.seen.items())


def add(cart: Cart, actor: str, sku: str, quantity: int, at_ms: int) -> Cart:
    """Return the cart with `quantity` (1 or more) more units. Raises ConflictError at a limit."""
    dot, ticked = _next(cart, actor, at_ms)
    lines = {**cart.lines, sku: {**cart.lines.get(sku, {}), dot: quantity}}
    return within_limits(replace(ticked, lines=lines), sku)


def remove(cart: Cart, actor: str, sku: str, seen: Vector, at_ms: int) -> Cart:
    """Return the cart without the additions of the SKU that `seen` covers; the same cart when it covers none."""
    left = _unseen(cart.lines.get(sku, {}), seen)
    if len(left) == len(cart.lines.get(sku, {})):
        return cart
    _, ticked = _next(cart, actor, at_ms)
    return replace(ticked, lines=_with_line(cart.lines, sku, left))


def set_quantity(cart: Cart, actor: str, sku: str, quantity: int, seen: Vector, at_ms: int) -> Cart:
    """Return the cart with `quantity` units in place of the additions that `seen` covers; 0 only removes."""
    if quantity == 0:
        return remove(cart, actor, sku, seen, at_ms)
    dot, ticked = _next(cart, actor, at_ms)
    line = {**_unseen(cart.lines.get(sku, {}), seen), dot: quantity}
    return within_limits(replace(ticked, lines={**cart.lines, sku: line}), sku)


def close(cart: Cart, actor: str, at_ms: int) -> Cart:
    """Return the cart after an order took everything in it. What is added elsewhere meanwhile is in the next one."""
    _, ticked = _next(cart, actor, at_ms)
    return replace(ticked, lines={}, number=cart.number + 1)


def within_limits(cart: Cart, sku: str | None = None) -> Cart:
    """Return the cart; ConflictError when it holds more than it may. `sku`: the one that was changed, else all."""
    for problem in (
        CART_LINES.problem(len(cart.lines)),
        CART_ACTORS.problem(len(cart.seen)),
        CART_NUMBER.problem(cart.number),
    ):
        if problem:
            raise ConflictError(f"The cart {problem}.")
    if problem := CART_DOTS.problem(dots_of(cart)):
        raise ConflictError(f"The cart {problem}; set a quantity instead of adding, which makes one of them.")
    for name, dots in cart.lines.items():
        if sku in (None, name) and (problem := QUANTITY.problem(sum(dots.values()))):
            raise ConflictError(f"SKU {visible(name)} in the cart {problem}.")
    return cart


def _next(cart: Cart, actor: str, at_ms: int) -> tuple[Dot, Cart]:
    """Return the actor's next event, and the cart that knows of it."""
    n = cart.seen.get(actor, 0) + 1
    ticked = replace(cart, seen={**cart.seen, actor: n}, touched_ms=max(cart.touched_ms, at_ms))
    return (actor, n), ticked


def _unseen(dots: Dots, seen: Vector) -> dict[Dot, int]:
    return {dot: quantity for dot, quantity in dots.items() if not covers(seen, dot)}


def _with_line(lines: Mapping[str, Dots], sku: str, dots: Dots) -> dict[str, Dots]:
    others = {name: line for name, line in lines.items() if name != sku}
    return {**others, sku: dots} if dots else others


def _merged(one: Dots, others_seen: Vector, other: Dots, ones_seen: Vector) -> dict[Dot, int]:
    both = {dot: quantity for dot, quantity in one.items() if dot in other}
    return both | _unseen(one, others_seen) | _unseen(other, ones_seen)
