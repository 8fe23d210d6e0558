"""A cart becomes an order once, at what its shopper confirmed; what comes late is in the next cart."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from contracts.carts import CartKey
from contracts.errors import CartChangedError, ConflictError, InsufficientStockError, TieoutError
from contracts.events.order import OrderState
from oltp.carts.checkout import check_out, price
from oltp.commands.check_out_cart import CheckOutCart, ConfirmedLine
from oltp.commands.execute import execute
from oltp.commands.set_price import SetPrice
from oltp.domain.carts import Cart, quantities
from tests.integration.carts_world import CartsWorld, new_key
from tests.integration.shop import LOCATION, MERCHANT, PRICES, Shop


@pytest.fixture
def world(shop: Shop, valkey_url: str) -> Iterator[CartsWorld]:
    world = CartsWorld(pod=shop.pod, url=valkey_url)
    yield world
    world.server.close()


def command_for(world: CartsWorld, key: CartKey, cart: Cart, **changes: Any) -> CheckOutCart:
    """Return the checkout of what a device shows, at the present prices."""
    priced = price(world.carts, key, cart, LOCATION)
    lines = [
        ConfirmedLine(sku=sku, quantity=units, unit_price_micro=priced.offers[sku].unit_price_micro or 0)
        for sku, units in quantities(cart).items()
    ]
    values: dict[str, Any] = {
        "merchant_id": MERCHANT,
        "cart_id": key.cart_id,
        "number": cart.number,
        "confirmed": lines,
        "total_minor": priced.total_minor or 0,
        "order_number": f"N{uuid.uuid4()}",
        "customer_id": "c1",
        "location_id": LOCATION,
    }
    return CheckOutCart(**values | changes)


def bought(world: CartsWorld, command: CheckOutCart, key: str = "") -> OrderState:
    key = key or str(uuid.uuid4())
    return check_out(world.carts, command, lambda: execute(world.pod, command, idempotency_key=key))


def skus(order: OrderState) -> dict[str, int]:
    return {line.sku: line.quantity for line in order.lines if line.variant_id}


def orders_of(shop: Shop) -> int:
    with psycopg.connect(shop.settings.reader_dsn) as connection:
        row = connection.execute("select count(*) from oltp.orders").fetchone()
    return int(row[0]) if row else 0


def test_a_cart_becomes_an_order_and_the_next_one_is_empty(world: CartsWorld) -> None:
    key = new_key()
    cart = world.carts.add(key, "phone", "MUG", 2).cart
    cart = world.carts.add(key, "laptop", "PEN", 1).cart
    command = command_for(world, key, cart)
    order = bought(world, command, "k1")
    assert skus(order) == {"MUG": 2, "PEN": 1}
    assert order.total_minor == command.total_minor
    # The same request again, e.g. because its answer was lost.
    assert bought(world, command, "k1") == order
    view = world.carts.view(key).cart
    assert (quantities(view), view.number) == ({}, 2)
    world.settle()
    assert world.stored(key) == {} and world.durable.ahead(10) == []


def test_two_devices_that_check_out_at_once_get_one_order(world: CartsWorld, shop: Shop) -> None:
    key = new_key()
    cart = world.carts.add(key, "phone", "MUG", 1).cart

    def buy(_: int) -> str:
        try:
            bought(world, command_for(world, key, cart))
        except ConflictError as error:
            return str(error)
        return "ordered"

    with ThreadPoolExecutor(4) as threads:
        outcomes = sorted(threads.map(buy, range(4)))
    assert outcomes.count("ordered") == 1
    assert all("was ordered already, as order" in said for said in outcomes if said != "ordered")
    assert orders_of(shop) == 1


def test_an_addition_that_comes_late_is_in_the_next_cart(world: CartsWorld) -> None:
    key = new_key()
    cart = world.carts.add(key, "phone", "MUG", 1).cart
    command = command_for(world, key, cart)
    world.settle()
    # The laptop adds after the order has read the cart, and before Valkey learns of the order.
    world.carts.write_through(key)
    with world.without_valkey():
        bought(world, command)
    late = world.carts.add(key, "laptop", "PEN", 3).cart
    assert quantities(late) == {"MUG": 1, "PEN": 3}
    with pytest.raises(ConflictError, match="was ordered already"):
        bought(world, command_for(world, key, late))
    world.settle()
    view = world.carts.view(key).cart
    assert (quantities(view), view.number) == ({"PEN": 3}, 2)
    assert skus(bought(world, command_for(world, key, view))) == {"PEN": 3}


def test_what_has_changed_is_told_and_the_new_total_confirmed(world: CartsWorld, shop: Shop) -> None:
    key = new_key()
    cart = world.carts.add(key, "phone", "MUG", 1).cart
    command = command_for(world, key, cart)
    new_price = SetPrice(merchant_id=MERCHANT, variant_id=shop.variants["MUG"], unit_price_micro=6_000_000)
    shop.do(new_price)
    with pytest.raises(CartChangedError, match="confirm the new total") as told:
        bought(world, command)
    changes = {change["kind"]: (change["sku"], change["confirmed"], change["now"]) for change in told.value.changes}
    assert changes["price"] == ("MUG", PRICES["MUG"], 6_000_000)
    assert changes["total"] == (None, command.total_minor, told.value.total_minor)
    assert orders_of(shop) == 0
    assert bought(world, command_for(world, key, cart)).total_minor == told.value.total_minor


def test_what_cannot_be_had_is_told_before_an_order(world: CartsWorld, shop: Shop) -> None:
    key = new_key()
    cart = world.carts.add(key, "phone", "MUG", 10**6).cart
    cart = world.carts.add(key, "phone", "NO SUCH", 1).cart
    priced = price(world.carts, key, cart, LOCATION)
    assert {stop.kind.value: stop.sku for stop in priced.stops} == {"short": "MUG", "not_sold": "NO SUCH"}
    assert priced.total_minor is None
    lines = [ConfirmedLine(sku="MUG", quantity=10**6, unit_price_micro=PRICES["MUG"])]
    with pytest.raises(CartChangedError, match="change the cart") as told:
        bought(world, command_for(world, key, Cart(), confirmed=lines))
    kinds = {(change["kind"], change["sku"]) for change in told.value.changes}
    assert kinds == {("short", "MUG"), ("quantity", "NO SUCH"), ("not_sold", "NO SUCH")}
    assert told.value.total_minor is None and orders_of(shop) == 0


def test_an_empty_or_unknown_cart_is_not_ordered(world: CartsWorld) -> None:
    with pytest.raises(ConflictError, match="empty"):
        bought(world, command_for(world, new_key(), Cart()))
    with pytest.raises(ConflictError, match="no open cart 7"):
        bought(world, command_for(world, new_key(), Cart(number=7)))


def test_the_last_unit_is_sold_to_one_of_two_carts(world: CartsWorld, shop: Shop) -> None:
    one, other = new_key(), new_key()
    available = price(world.carts, one, world.carts.add(one, "phone", "MUG", 1).cart, LOCATION).offers["MUG"].available
    assert available is not None
    carts = {key: world.carts.set_quantity(key, "phone", "MUG", available).cart for key in (one, other)}
    commands = {key: command_for(world, key, cart) for key, cart in carts.items()}

    def buy(key: CartKey) -> type[TieoutError] | None:
        try:
            bought(world, commands[key])
        except TieoutError as error:
            return type(error)
        return None

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(buy, (one, other)))
    assert outcomes.count(None) == 1
    assert {*outcomes} - {None} <= {CartChangedError, InsufficientStockError}
    loser = one if outcomes[0] else other
    assert world.shown(loser) == {"MUG": available}


def test_a_number_is_not_used_again_after_a_cart_was_removed(world: CartsWorld, shop: Shop) -> None:
    key = new_key()
    bought(world, command_for(world, key, world.carts.add(key, "phone", "MUG", 1).cart))
    world.settle()
    world.server.client.flushall()
    with psycopg.connect(shop.settings.owner_dsn) as connection:
        connection.execute("delete from oltp.carts")
    with world.without_pod():
        world.carts = world.requests()
        cart = world.carts.add(key, "phone", "PEN", 1).cart
        assert cart.number == 1
    world.settle()
    cart = world.carts.view(key).cart
    assert cart.number == 2
    bought(world, command_for(world, key, cart))
