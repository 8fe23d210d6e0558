"""A cart as bytes: JSON with the number of its format, the same for Valkey, PostgreSQL and the tokens of clients.

    {"format": 2, "lines": {sku: {actor: [[first n, count, quantity], ...]}}, "number": 1, "seen": {actor: n},
     "touched_ms": 1767323045678}

Additions of one device that follow each other with the same quantity are stored as one run, which is what tapping "+"
makes. A run is only a way to write: it is read as its single additions, so a removal that has seen a part of them takes
this part. (A stored sum would be smaller still; then such a removal would take all or nothing.)

Every format that was ever stored is read; the newest is written. A test has bytes of each.

Belongs here: bytes to value and back. Does not belong here: what the value means (`carts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import msgspec

from contracts.carts import CART_DOTS
from contracts.errors import CartUnreadableError, InputError
from oltp.domain.carts import Cart, Dots, Vector, covers

FORMAT = 2
"""1: every addition by itself, `[actor, n, quantity]`. 2: runs."""

DOTS_MAX = 100 * CART_DOTS.most
"""More is no cart of ours, but a damaged run that would fill the memory."""

_Positive = Annotated[int, msgspec.Meta(ge=1)]


class _Flat(msgspec.Struct, frozen=True, kw_only=True):
    lines: dict[str, list[tuple[str, _Positive, _Positive]]]
    seen: dict[str, _Positive]
    number: _Positive
    touched_ms: int


class _Runs(msgspec.Struct, frozen=True, kw_only=True):
    lines: dict[str, dict[str, list[tuple[_Positive, _Positive, _Positive]]]]
    seen: dict[str, _Positive]
    number: _Positive
    touched_ms: int


class _Format(msgspec.Struct, frozen=True, kw_only=True):
    format: int


def encoded(cart: Cart) -> bytes:
    """Return the cart in the newest format; equal carts give equal bytes."""
    values = {
        "format": FORMAT,
        "lines": {sku: _runs_of(dots) for sku, dots in cart.lines.items()},
        "number": cart.number,
        "seen": dict(cart.seen),
        "touched_ms": cart.touched_ms,
    }
    return msgspec.json.encode(values, order="sorted")


def decoded(text: bytes | str) -> Cart:
    """Return the cart; CartUnreadableError for bytes that are no cart of a known format."""
    try:
        known = _READ.get(msgspec.json.decode(text, type=_Format).format)
        if known is None:
            raise CartUnreadableError("The stored cart has a format that this release does not know.")
        cart = known(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CartUnreadableError(f"The stored cart cannot be read: {error}.") from None
    if not all(covers(cart.seen, dot) for dots in cart.lines.values() for dot in dots):
        raise CartUnreadableError("The stored cart holds an addition that its vector does not know.")
    return cart


def seen_token(seen: Vector) -> str:
    """Return a vector as the text that a client sends back with a removal."""
    return msgspec.json.encode(dict(seen), order="sorted").decode()


def seen_of(token: str) -> Vector:
    """Return the vector of such a text; InputError when it is none."""
    try:
        return msgspec.json.decode(token, type=dict[str, _Positive])
    except msgspec.MsgspecError as error:
        raise InputError(f"What the client says to have seen of the cart cannot be read: {error}.") from None


def _runs_of(dots: Dots) -> dict[str, list[list[int]]]:
    """Return the dots of one SKU as runs [first n, count, quantity] by actor."""
    runs: dict[str, list[list[int]]] = {}
    for (actor, n), quantity in sorted(dots.items()):
        of_actor = runs.setdefault(actor, [])
        if of_actor and of_actor[-1][0] + of_actor[-1][1] == n and of_actor[-1][2] == quantity:
            of_actor[-1][1] += 1
        else:
            of_actor.append([n, 1, quantity])
    return runs


def _dots_of(runs: Mapping[str, list[tuple[int, int, int]]]) -> Iterator[tuple[tuple[str, int], int]]:
    for actor, of_actor in runs.items():
        for first, count, quantity in of_actor:
            for n in range(first, first + count):
                yield (actor, n), quantity


def _from_flat(text: bytes | str) -> Cart:
    read = msgspec.json.decode(text, type=_Flat)
    lines = {sku: {(actor, n): quantity for actor, n, quantity in line} for sku, line in read.lines.items()}
    return Cart(lines=lines, seen=read.seen, number=read.number, touched_ms=read.touched_ms)


def _from_runs(text: bytes | str) -> Cart:
    read = msgspec.json.decode(text, type=_Runs)
    if sum(count for runs in read.lines.values() for run in runs.values() for _, count, _ in run) > DOTS_MAX:
        raise CartUnreadableError(f"The stored cart says to hold more than {DOTS_MAX:,} additions.")
    lines = {sku: dict(_dots_of(runs)) for sku, runs in read.lines.items()}
    return Cart(lines=lines, seen=read.seen, number=read.number, touched_ms=read.touched_ms)


_READ: Mapping[int, Callable[[bytes | str], Cart]] = {1: _from_flat, FORMAT: _from_runs}
