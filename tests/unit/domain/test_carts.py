"""A cart merges: every order of delivery ends alike, and it holds the additions that no removal has observed."""

from __future__ import annotations

import random
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.carts import CART_DOTS, CART_LINES, CartKey, cart_of_customer
from contracts.errors import CartUnreadableError, ConflictError, InputError
from contracts.limits import QUANTITY
from oltp.domain import carts
from oltp.domain.cart_codec import decoded, encoded, seen_of, seen_token
from oltp.domain.carts import EMPTY, Cart, add, contains, merge, quantities, remove, set_quantity
from tests.unit.domain.cart_histories import DEVICES, histories, lived

FORMATS = {
    1: b'{"format":1,"lines":{"MUG":[["phone",1,2],["phone",2,2],["tv",1,1]]},"number":3,'
    b'"seen":{"phone":4,"tv":1},"touched_ms":7}',
    2: b'{"format":2,"lines":{"MUG":{"phone":[[1,2,2]],"tv":[[1,1,1]]}},"number":3,'
    b'"seen":{"phone":4,"tv":1},"touched_ms":7}',
}
"""The same cart as each format stores it."""


def assert_converges(history: list[tuple[Any, ...]], seed: int) -> None:
    world, chance = lived(history), random.Random(seed)
    for device in DEVICES:
        assert quantities(world.held[device]) == world.sums(device)
    expected = reduce(merge, world.held.values())
    assert quantities(expected) == world.sums(*DEVICES)
    # Every state arrives, in any order, some of them twice.
    deliveries = [*world.states, *world.held.values(), *chance.choices(world.states or [EMPTY], k=5)]
    for _ in range(3):
        chance.shuffle(deliveries)
        assert reduce(merge, deliveries, EMPTY) == expected
    assert decoded(encoded(expected)) == expected
    one, other, third = (chance.choice(world.states or [EMPTY]) for _ in range(3))
    assert merge(one, other) == merge(other, one)
    assert merge(one, merge(other, third)) == merge(merge(one, other), third)
    assert merge(one, one) == one
    assert contains(one, other) == (merge(one, other) == one)


@given(histories, st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_devices_converge_to_the_additions_that_no_removal_has_observed(history: list[Any], seed: int) -> None:
    assert_converges(history, seed)


@pytest.mark.long
@given(histories, st.integers(0, 2**32))
@settings(max_examples=8_000, deadline=None)
def test_thousands_of_histories_converge(history: list[Any], seed: int) -> None:
    assert_converges(history, seed)


@given(histories, histories)
@settings(max_examples=50, deadline=None)
def test_a_sign_in_may_be_repeated(known: list[Any], anonymous: list[Any]) -> None:
    ours = lived(known).held["phone"]
    # No actor writes in two carts (oltp/carts/actors.py).
    theirs = renamed(lived(anonymous).held["phone"])
    signed_in = merge(ours, theirs)
    assert merge(signed_in, theirs) == signed_in
    for sku in quantities(signed_in):
        signed_in = remove(signed_in, "phone", sku, signed_in.seen, 99)
    # What was taken out after the first sign-in does not come back with the second.
    assert quantities(merge(signed_in, theirs)) == {}


def renamed(cart: Cart) -> Cart:
    lines = {
        sku: {(f"anonymous {actor}", n): units for (actor, n), units in dots.items()}
        for sku, dots in cart.lines.items()
    }
    seen = {f"anonymous {actor}": n for actor, n in cart.seen.items()}
    return Cart(lines=lines, seen=seen, number=cart.number, touched_ms=cart.touched_ms)


def test_a_removal_leaves_what_its_sender_has_not_seen() -> None:
    phone = add(EMPTY, "phone", "MUG", 1, 1)
    laptop = merge(EMPTY, phone)
    phone = add(phone, "phone", "MUG", 1, 2)
    laptop = remove(laptop, "laptop", "MUG", laptop.seen, 3)
    assert quantities(merge(phone, laptop)) == {"MUG": 1}


def test_a_removal_at_one_place_takes_what_its_sender_saw_and_no_more() -> None:
    cart = add(EMPTY, "phone", "MUG", 1, 1)
    token = seen_token(cart.seen)
    cart = add(cart, "laptop", "MUG", 4, 2)
    assert quantities(remove(cart, "phone", "MUG", seen_of(token), 3)) == {"MUG": 4}
    assert remove(cart, "phone", "PEN", cart.seen, 3) == cart
    assert quantities(set_quantity(cart, "phone", "MUG", 0, cart.seen, 3)) == {}


def test_two_devices_that_set_three_and_five_at_once_leave_eight() -> None:
    both = add(EMPTY, "phone", "MUG", 1, 1)
    phone = set_quantity(both, "phone", "MUG", 3, both.seen, 2)
    laptop = set_quantity(both, "laptop", "MUG", 5, both.seen, 2)
    assert quantities(merge(phone, laptop)) == {"MUG": 8}


def test_what_is_added_while_an_order_takes_the_cart_is_in_the_next_one() -> None:
    cart = add(EMPTY, "phone", "MUG", 1, 1)
    late = add(cart, "laptop", "PEN", 2, 2)
    ordered = carts.close(cart, "checkout", 3)
    after = merge(ordered, late)
    assert (quantities(after), after.number) == ({"PEN": 2}, 2)


def test_a_run_of_additions_is_stored_as_one_and_taken_apart_by_a_removal() -> None:
    cart = EMPTY
    for n in range(1, 101):
        cart = add(cart, "phone", "MUG", 1, n)
    assert len(encoded(cart)) < 120
    stored = decoded(encoded(cart))
    assert quantities(remove(stored, "tv", "MUG", {"phone": 40}, 101)) == {"MUG": 60}


@pytest.mark.parametrize("number", FORMATS)
def test_every_format_that_was_stored_is_read(number: int) -> None:
    cart = decoded(FORMATS[number])
    assert (quantities(cart), cart.number, cart.touched_ms) == ({"MUG": 5}, 3, 7)
    assert encoded(cart) == FORMATS[max(FORMATS)]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"format":9}',
        b'{"format":2}',
        FORMATS[2].replace(b'"phone":4', b'"phone":1'),
        FORMATS[2].replace(b"[1,2,2]", b"[1,2,0]"),
        FORMATS[2].replace(b"[1,2,2]", b"[1,999999999,2]"),
    ],
)
def test_bytes_that_are_no_cart_are_refused(text: bytes) -> None:
    with pytest.raises(CartUnreadableError):
        decoded(text)


@pytest.mark.parametrize("token", ["", "[]", '{"phone":0}', '{"phone":"1"}'])
def test_a_token_that_is_no_vector_is_refused(token: str) -> None:
    with pytest.raises(InputError, match="seen of the cart"):
        seen_of(token)


def test_limits_hold_where_a_cart_is_changed() -> None:
    full = EMPTY
    for n in range(CART_LINES.most):
        full = add(full, "phone", f"S{n}", 1, n)
    with pytest.raises(ConflictError, match="SKUs in a cart are at most"):
        add(full, "phone", "one more", 1, 0)
    dots = {("phone", n): 1 for n in range(1, CART_DOTS.most + 1)}
    tapped = Cart(lines={"MUG": dots}, seen={"phone": CART_DOTS.most})
    with pytest.raises(ConflictError, match="set a quantity"):
        add(tapped, "phone", "MUG", 1, 0)
    assert quantities(set_quantity(tapped, "phone", "MUG", 7, tapped.seen, 0)) == {"MUG": 7}
    with pytest.raises(ConflictError, match="SKU MUG in the cart"):
        set_quantity(add(EMPTY, "tv", "MUG", 1, 0), "tv", "MUG", QUANTITY.most, {}, 0)


def test_a_customer_has_one_cart_and_no_two_keys_are_alike() -> None:
    assert cart_of_customer("m", "c") == cart_of_customer("m", "c")
    assert cart_of_customer("m/1", "c") != cart_of_customer("m", "1/c")
    key = CartKey(merchant_id="a/b", cart_id=cart_of_customer("a/b", "c").cart_id)
    assert CartKey.of_text(key.text) == key
