"""Carts in their two stores: changed at once from several places, written through, and served when a store is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from contracts.carts import cart_of_customer
from contracts.errors import CartUnavailableError, CartUnreadableError, InputError
from oltp.carts.expiry import expire_carts
from oltp.carts.sessions import Sessions
from oltp.carts.valkey_carts import KEY
from oltp.domain.carts import merge, quantities
from tests.integration.carts_world import AGE_DAYS, CartsWorld, new_key
from tests.integration.shop import MERCHANT, Shop


@pytest.fixture
def world(shop: Shop, valkey_url: str) -> Iterator[CartsWorld]:
    world = CartsWorld(pod=shop.pod, url=valkey_url)
    yield world
    world.server.close()


def test_what_a_device_adds_another_sees_and_the_pod_has_it_soon(world: CartsWorld) -> None:
    key = new_key()
    world.carts.add(key, "phone", "MUG", 2)
    world.carts.add(key, "laptop", "PEN", 1)
    assert world.shown(key) == {"MUG": 2, "PEN": 1}
    assert world.stored(key) is None
    assert world.valkey.waiting(world.pod.pod)[0] == 1
    assert world.writer.write_waiting() == 1
    assert world.stored(key) == {"MUG": 2, "PEN": 1}
    assert world.valkey.waiting(world.pod.pod) == (0, 0.0)
    world.carts.remove(key, "laptop", "MUG")
    world.carts.set_quantity(key, "phone", "PEN", 7)
    world.settle()
    assert world.shown(key) == world.stored(key) == {"PEN": 7}


def test_processes_that_change_one_cart_at_once_lose_nothing(world: CartsWorld) -> None:
    key = new_key()

    def shop_on(device: int) -> None:
        carts = world.requests()
        for _ in range(10):
            carts.add(key, f"device {device}", "MUG", 1)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(shop_on, range(4)))
        world.settle()
    assert world.shown(key) == world.stored(key) == {"MUG": 40}


def test_a_request_that_is_repeated_by_its_key_changes_nothing(world: CartsWorld) -> None:
    key = new_key()
    for _ in range(2):
        world.carts.add(key, "phone", "MUG", 2, request_key="r1")
    world.carts.add(new_key(), "phone", "MUG", 2, request_key="r1")
    assert world.shown(key) == {"MUG": 2}


def test_limits_hold_before_anything_is_stored(world: CartsWorld) -> None:
    key = new_key()
    for device, sku, quantity in (("phone", "a\u0000b", 1), ("phone", "MUG", 0), ("p" * 65, "MUG", 1)):
        with pytest.raises(InputError):
            world.carts.add(key, device, sku, quantity)
    assert world.server.client.keys() == []


def test_a_removal_takes_what_its_sender_saw(world: CartsWorld) -> None:
    key = new_key()
    seen = world.carts.add(key, "phone", "MUG", 2).cart.seen
    world.carts.add(key, "laptop", "MUG", 3)
    world.carts.remove(key, "phone", "MUG", seen=seen)
    assert world.shown(key) == {"MUG": 3}


def test_a_sign_in_merges_both_carts_once(world: CartsWorld) -> None:
    anonymous, known = new_key(), cart_of_customer(MERCHANT, "c1")
    # The same device in both carts: its first additions must not be taken for one.
    world.carts.add(anonymous, "phone", "MUG", 2)
    world.carts.add(known, "phone", "PEN", 5)
    for _ in range(2):
        assert quantities(world.carts.sign_in(anonymous, known).cart) == {"MUG": 2, "PEN": 5}
    world.carts.remove(known, "phone", "MUG")
    assert quantities(world.carts.sign_in(anonymous, known).cart) == {"PEN": 5}


def test_an_emptied_valkey_gets_its_carts_back_from_the_pod(world: CartsWorld) -> None:
    key = new_key()
    world.carts.add(key, "phone", "MUG", 2)
    world.settle()
    world.carts.add(key, "phone", "PEN", 1)  # not written through yet: lost
    world.server.client.flushall()
    assert world.shown(key) == {"MUG": 2}
    # The lost addition's number was used; the next one must have another name.
    state = world.carts.add(key, "phone", "PIN", 4).cart
    world.settle()
    assert world.shown(key) == world.stored(key) == {"MUG": 2, "PIN": 4}
    assert len(state.seen) == 2


def test_a_restarted_valkey_may_have_lost_its_newest_states(world: CartsWorld) -> None:
    key = new_key()
    before = world.carts.add(key, "phone", "MUG", 2).cart
    # As if the state were one of an earlier run, read back from disk.
    client: Any = world.server.client
    client.hset(KEY + key.text, "token", b"0ld" + client.hget(KEY + key.text, "token")[3:])
    after = world.carts.add(key, "phone", "MUG", 1).cart
    assert len(after.seen) == 2 and merge(before, after) == after


def test_carts_go_on_without_the_pod_and_are_reconciled_after(world: CartsWorld) -> None:
    key, only_in_the_pod = new_key(), new_key()
    world.carts.add(only_in_the_pod, "phone", "PEN", 1)
    world.settle()
    world.server.client.flushall()
    with world.without_pod():
        world.carts = world.requests()
        world.carts.add(key, "phone", "MUG", 2)
        assert world.shown(key) == {"MUG": 2}
        view = world.carts.view(only_in_the_pod)
        assert (quantities(view.cart), view.is_complete) == ({}, False)
        world.carts.add(only_in_the_pod, "phone", "PIN", 1)
        with pytest.raises(CartUnavailableError, match="cannot be reached"):
            world.writer.write_waiting()
    world.settle()
    assert world.shown(key) == world.stored(key) == {"MUG": 2}
    assert world.shown(only_in_the_pod) == world.stored(only_in_the_pod) == {"PEN": 1, "PIN": 1}


def test_carts_go_on_without_valkey_and_are_reconciled_after(world: CartsWorld) -> None:
    key, other = new_key(), new_key()
    world.carts.add(key, "phone", "MUG", 2)
    world.settle()
    world.carts.add(key, "phone", "PIN", 1)  # waits in Valkey
    with world.without_valkey():
        world.carts.add(key, "phone", "PEN", 1)
        world.carts.remove(key, "laptop", "MUG")
        world.carts.add(other, "phone", "PEN", 1)
        assert (world.shown(key), world.shown(other)) == ({"PEN": 1}, {"PEN": 1})
    world.settle()
    assert world.shown(key) == world.stored(key) == {"PEN": 1, "PIN": 1}
    assert world.shown(other) == {"PEN": 1}
    assert world.durable.ahead(10) == []


def test_without_both_stores_there_is_one_error(world: CartsWorld) -> None:
    with world.without_pod(), world.without_valkey():
        for ask in (lambda: world.carts.view(new_key()), lambda: world.carts.add(new_key(), "phone", "MUG", 1)):
            with pytest.raises(CartUnavailableError, match="cannot be served"):
                ask()


def test_the_queue_is_bounded_and_carts_in_it_may_still_change(shop: Shop, valkey_url: str) -> None:
    world = CartsWorld(pod=shop.pod, url=valkey_url, queued_max=1)
    first, second = new_key(), new_key()
    world.carts.add(first, "phone", "MUG", 1)
    with pytest.raises(CartUnavailableError, match="As many carts wait"):
        world.carts.add(second, "phone", "MUG", 1)
    world.carts.add(first, "phone", "MUG", 1)
    world.settle()
    world.carts.add(second, "phone", "MUG", 1)
    assert (world.shown(first), world.shown(second)) == ({"MUG": 2}, {"MUG": 1})


def test_a_writer_that_is_killed_before_it_settles_repeats_and_changes_nothing(world: CartsWorld) -> None:
    key = new_key()
    world.carts.add(key, "phone", "MUG", 2)
    (queued,) = world.valkey.queued(world.pod.pod, 10)
    # The pod has it, then the writer is killed, then the cart is changed.
    world.durable.write({key: world.carts.view(key).cart})
    world.carts.add(key, "phone", "MUG", 1)
    assert not world.valkey.settle(world.pod.pod, queued)
    world.settle()
    assert world.shown(key) == world.stored(key) == {"MUG": 3}
    assert world.writer.write_waiting() == 0


def test_a_cart_that_cannot_be_read_stops_only_itself(world: CartsWorld, shop: Shop) -> None:
    bad, unreadable, good = new_key(), new_key(), new_key()
    for key in (bad, unreadable, good):
        world.carts.add(key, "phone", "MUG", 1)
    world.server.client.hset(KEY + bad.text, "state", b"\xff")
    world.settle()
    with psycopg.connect(shop.settings.owner_dsn) as connection:
        connection.execute(
            "update oltp.carts set state = state || '{\"format\": 9}' where cart_id = %s", (unreadable.cart_id,)
        )
    for key in (unreadable, good):
        world.carts.add(key, "phone", "MUG", 1)
    world.settle()
    assert world.stored(good) == {"MUG": 2}
    assert set(world.valkey.aside(world.pod.pod)) == {bad, unreadable}
    with pytest.raises(CartUnreadableError):
        world.carts.view(bad)
    assert world.valkey.waiting(world.pod.pod)[0] == 0


def test_a_cart_expires_by_age_in_both_stores_and_does_not_come_back(world: CartsWorld) -> None:
    key = new_key()
    old = world.carts.add(key, "phone", "MUG", 2).cart
    world.settle()
    world.passed = timedelta(days=AGE_DAYS, hours=1)
    assert world.shown(key) == {}
    assert world.stored(key) is None
    world.carts.add(key, "phone", "PEN", 1)
    world.settle()
    # A late writer brings the old state again, and the newest state knows nothing of it.
    world.durable.write({key: old})
    assert world.stored(key) == {"PEN": 1}
    late = new_key()
    world.durable.write({late: old})
    assert world.stored(late) is None
    world.passed *= 2
    world.passed += timedelta(days=2)
    assert expire_carts(world.durable) >= 1
    assert world.shown(key) == {}


def test_a_cart_goes_to_the_pod_to_which_its_merchant_has_moved(world: CartsWorld, shop: Shop) -> None:
    key = new_key()
    world.carts.add(key, "phone", "MUG", 2)
    with psycopg.connect(shop.settings.owner_dsn) as connection:
        connection.execute("delete from oltp.residents")
    # The directory does not know of the move yet, then it does.
    world.writer.write_waiting()
    assert world.valkey.waiting("pod1")[0] == 1
    replace(world.writer, pod_name_of=lambda _: "pod2").write_waiting()
    assert (world.valkey.waiting("pod1")[0], world.valkey.waiting("pod2")[0]) == (0, 1)
    with psycopg.connect(shop.settings.owner_dsn) as connection:
        connection.execute("insert into oltp.residents values (%s, 1)", (MERCHANT,))


def test_a_full_memory_evicts_what_can_be_had_again_and_then_the_pod_serves(world: CartsWorld) -> None:
    written, waiting = new_key(), new_key()
    world.carts.add(written, "phone", "MUG", 1)
    world.settle()
    world.carts.add(waiting, "phone", "PEN", 1)
    client: Any = world.server.client
    before = client.config_get("maxmemory-policy")["maxmemory-policy"]
    try:
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("maxmemory", "1")
        assert world.shown(written) == {"MUG": 1}
        assert quantities(world.carts.add(written, "phone", "PIN", 1).cart) == {"MUG": 1, "PIN": 1}
    finally:
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", before)
    assert client.exists(KEY + waiting.text) and not client.hexists(KEY + written.text, "state")
    world.carts = world.requests()
    world.settle()
    assert world.shown(waiting) == world.stored(waiting) == {"PEN": 1}
    assert world.shown(written) == {"MUG": 1, "PIN": 1}


def test_the_writer_ends_with_an_empty_queue(world: CartsWorld) -> None:
    stop, key = threading.Event(), new_key()
    worker = threading.Thread(target=world.writer.run, args=(stop,), kwargs={"seconds": 0.1})
    worker.start()
    world.carts.add(key, "phone", "MUG", 2)
    stop.set()
    worker.join(10)
    assert world.stored(key) == {"MUG": 2}


def test_a_session_binds_a_customer_to_a_device(world: CartsWorld) -> None:
    sessions = Sessions(server=world.server)
    token, session = sessions.begin(MERCHANT)
    assert sessions.find(token) == session and session.cart == session.anonymous_cart
    new_token, signed_in = sessions.sign_in(token, session, "c1")
    assert sessions.find(token) is None
    assert sessions.find(new_token) == signed_in
    assert signed_in.cart == cart_of_customer(MERCHANT, "c1") and signed_in.device_id == session.device_id
    last_token, anonymous = sessions.sign_out(new_token, signed_in)
    assert anonymous.customer_id is None and anonymous.cart != session.cart
    client: Any = world.server.client
    assert new_token.encode() not in b" ".join(client.keys())
    world.server.client.flushall()
    assert sessions.find(last_token) is None
