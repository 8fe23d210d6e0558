"""Both stores of carts are compared, every kind of difference is found by its class, and a merge repairs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from cli.app import app
from contracts.carts import CartKey
from contracts.clock import utc_now
from contracts.ownership import CART
from contracts.settings import Settings
from contracts.verdicts import Verdict
from oltp.carts.valkey_carts import KEY
from oltp.domain import carts
from oltp.domain.cart_codec import encoded
from oltp.domain.carts import Cart, quantities
from reconcile import cart_comparison, sightings
from reconcile.cart_comparison import MERGED, CartClass, CartFindings, CartSides, CartSweep, compare_carts
from stack import settings as stack_settings
from stack.composition.carts import cart_keepers
from stack.looking.carts import waiting_of
from stack.servers.valkey import EmbeddedValkey
from stack.upkeep.asked import pairs_for
from stack.upkeep.cart_keeping import TOLD_AGAIN_SECONDS, CartRounds, compare_and_tell
from stack.upkeep.cart_watch import CartWatch
from tests.integration.carts_world import AGE_DAYS, CartsWorld, new_key
from tests.integration.shop import Shop

DAY_MS = 86_400_000


@pytest.fixture
def world(shop: Shop, valkey_url: str) -> Iterator[CartsWorld]:
    world = CartsWorld(pod=shop.pod, url=valkey_url)
    yield world
    world.server.close()


def compared(
    world: CartsWorld, shop: Shop, wait: Callable[[], object] = lambda: None, sweep: CartSweep | None = None
) -> CartFindings:
    sides = CartSides(
        pod=world.pod.pod,
        reader_dsn=shop.settings.reader_dsn,
        valkey_page=world.valkey.page,
        valkey_states=world.valkey.states,
        waiting=partial(world.valkey.waiting_of, world.pod.pod),
    )
    bound_ms = world.pod.clock().timestamp() * 1_000 - AGE_DAYS * DAY_MS
    return compare_carts(sides, is_expired=lambda touched_ms: touched_ms < bound_ms, wait=wait, sweep=sweep)


def repaired(world: CartsWorld, shop: Shop, found: CartFindings) -> CartFindings:
    for item in found.differences:
        if item.kind in MERGED:
            world.valkey.queue(item.key, world.pod.pod)
    world.settle()
    return compared(world, shop)


def in_valkey(world: CartsWorld, key: CartKey, cart: Cart) -> None:
    world.server.client.hset(KEY + key.text, "state", encoded(cart))


def test_carts_that_agree_are_consistent_and_all_are_looked_at(world: CartsWorld, shop: Shop) -> None:
    for _ in range(3):
        world.carts.add(new_key(), "phone", "MUG", 1)
    world.settle()
    assert (found := compared(world, shop)).verdict is Verdict.CONSISTENT
    assert (found.compared, found.sentence) == (3, "pod1: consistent, 3 carts compared.")


def test_each_kind_of_difference_is_found_and_merged(world: CartsWorld, shop: Shop) -> None:
    keys = {kind: new_key() for kind in (*MERGED, CartClass.DIFFERENT, CartClass.UNREADABLE)}
    for key in keys.values():
        world.carts.add(key, "phone", "MUG", 1)
        world.settle()
    now = {kind: world.carts.view(key).cart for kind, key in keys.items()}
    with psycopg.connect(shop.settings.owner_dsn) as connection:
        connection.execute("delete from oltp.carts where cart_id = %s", (keys[CartClass.MISSING].cart_id,))
    for kind in (CartClass.BEHIND, CartClass.APART):
        in_valkey(world, keys[kind], carts.add(now[kind], "laptop~1", "PEN", 1, 2))
    for kind in (CartClass.STALE, CartClass.APART):
        world.durable.write({keys[kind]: carts.remove(now[kind], "tv~1", "MUG", now[kind].seen, 3)})
    ((sku, dots),) = now[CartClass.DIFFERENT].lines.items()
    in_valkey(world, keys[CartClass.DIFFERENT], replace(now[CartClass.DIFFERENT], lines={sku: dict.fromkeys(dots, 9)}))
    world.server.client.hset(KEY + keys[CartClass.UNREADABLE].text, "state", b"?")

    found = compared(world, shop)
    assert found.verdict is Verdict.INCONSISTENT
    assert {item.key: item.kind for item in found.differences} == {key: kind for kind, key in keys.items()}
    after = repaired(world, shop, found)
    # What a merge cannot repair is left as it is, for a person.
    assert {item.kind for item in after.differences} == {CartClass.DIFFERENT, CartClass.UNREADABLE}
    assert world.stored(keys[CartClass.MISSING]) == {"MUG": 1}
    for kind, expected in (
        (CartClass.BEHIND, {"MUG": 1, "PEN": 1}),
        (CartClass.STALE, {}),
        (CartClass.APART, {"PEN": 1}),
    ):
        assert world.stored(keys[kind]) == world.shown(keys[kind]) == expected


def test_a_sweep_comes_to_every_cart(world: CartsWorld, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cart_comparison, "AT_ONCE", 2)
    keys = [new_key() for _ in range(5)]
    for key in keys:
        world.carts.add(key, "phone", "MUG", 1)
    world.settle()
    with psycopg.connect(shop.settings.owner_dsn) as connection:
        connection.execute("delete from oltp.carts where cart_id = %s", (keys[0].cart_id,))
    in_valkey(world, keys[1], carts.add(world.carts.view(keys[1]).cart, "laptop~1", "PEN", 1, 2))
    sweep, found = CartSweep(most=2), set()
    for _ in range(3):
        found |= {(item.key, item.kind) for item in compared(world, shop, sweep=sweep).differences}
    assert found == {(keys[0], CartClass.MISSING), (keys[1], CartClass.BEHIND)}


def test_a_cart_on_its_way_does_not_count(world: CartsWorld, shop: Shop) -> None:
    written, changing = new_key(), new_key()
    for key in (written, changing):
        world.carts.add(key, "phone", "MUG", 1)
    found = compared(world, shop, wait=world.settle)
    assert (found.verdict, found.changing, found.compared) == (Verdict.CONSISTENT, 0, 2)
    world.carts.add(changing, "phone", "MUG", 1)
    found = compared(world, shop, wait=lambda: world.carts.add(changing, "phone", "MUG", 1))
    assert (found.verdict, found.changing, found.waiting) == (Verdict.LATE, 0, 1)


def test_what_the_pod_got_while_valkey_was_away_is_late_until_it_is_brought_back(
    world: CartsWorld, shop: Shop, settings: Settings, valkey_url: str
) -> None:
    settings = replace(settings, pods=(replace(shop.settings, pod=world.pod.pod),), carts_url=valkey_url)
    stale, apart, forged = new_key(), new_key(), new_key()
    for key in (stale, apart, forged):
        world.carts.add(key, "phone", "MUG", 1)
        world.settle()
    assert waiting_of(settings, world.pod.pod) == (0, 0.0)
    for key in (stale, apart):
        world.durable.change(key, lambda cart, incarnation: carts.add(cart, f"tv~{incarnation}", "PEN", 1, 2))
    in_valkey(world, apart, carts.add(world.carts.view(apart).cart, "laptop~1", "CUP", 1, 2))
    # Somebody wrote this one past the rules: its row does not say that it waits.
    world.durable.write({forged: carts.add(world.carts.view(forged).cart, "tv~9", "PEN", 1, 3)})

    found = compared(world, shop)
    assert (found.verdict, found.waiting, set(found.undecided)) == (Verdict.INCONSISTENT, 2, {stale, apart})
    assert [(item.key, item.kind) for item in found.differences] == [(forged, CartClass.STALE)]
    number, seconds = waiting_of(settings, world.pod.pod)
    assert number == 2
    assert 0.0 < seconds < 60.0

    world.settle()
    assert {item.key for item in compared(world, shop).differences} == {forged}
    assert waiting_of(settings, world.pod.pod)[0] == 0
    assert world.shown(stale) == {"MUG": 1, "PEN": 1}
    assert world.shown(apart) == {"MUG": 1, "PEN": 1, "CUP": 1}


def test_a_side_that_cannot_be_read_is_no_pass(world: CartsWorld, shop: Shop) -> None:
    world.carts.add(new_key(), "phone", "MUG", 1)
    world.settle()
    with world.without_valkey():
        found = compared(world, shop)
    assert found.verdict is Verdict.UNKNOWN and "does not answer" in found.reason


def test_a_killed_server_is_restarted_and_a_wiped_one_filled_from_the_pod(shop: Shop, session_folder: Path) -> None:
    server = EmbeddedValkey(
        name="carts",
        folder=session_folder / "carts",
        log=session_folder / "carts.log",
        memory_mb=32,
        policy="volatile-lru",
    )
    server.start()
    try:
        world = CartsWorld(pod=shop.pod, url=server.url())
        written, waiting = new_key(), new_key()
        world.carts.add(written, "phone", "MUG", 1)
        world.settle()
        world.carts.add(waiting, "phone", "PEN", 2)
        server.kill()
        # Not a shopper's request fails: the pod serves.
        fresh = world.requests()
        assert quantities(fresh.view(written).cart) == {"MUG": 1}
        assert quantities(fresh.add(written, "phone", "PIN", 3).cart) == {"MUG": 1, "PIN": 3}
        server.start()
        # What waited was on disk, and the writer goes on where the killed one stopped.
        world.carts = world.requests()
        world.settle()
        assert world.stored(waiting) == world.shown(waiting) == {"PEN": 2}
        assert world.shown(written) == world.stored(written) == {"MUG": 1, "PIN": 3}
        assert compared(world, shop).verdict is Verdict.CONSISTENT

        world.carts.add(waiting, "phone", "MUG", 9)  # within the stated time: lost with its store
        server.kill()
        server.delete_data()
        server.start()
        world.carts = world.requests()
        assert (world.shown(waiting), world.shown(written)) == ({"PEN": 2}, {"MUG": 1, "PIN": 3})
        world.settle()
        assert compared(world, shop).verdict is Verdict.CONSISTENT
        world.server.close()
    finally:
        server.stop()


def test_the_keeper_hands_what_differs_to_the_reconciler(
    world: CartsWorld, shop: Shop, settings: Settings, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pod = replace(world.pod, clock=utc_now)
    world.carts = world.requests()
    sightings.migrate(settings.control_dsn)
    # The name of a pod is that of its queue.
    settings = replace(
        settings, pods=(replace(shop.settings, pod=world.pod.pod),), carts_url=valkey_url, cart_write_ms=20
    )
    behind, unreadable = new_key(), new_key()
    for key in (behind, unreadable):
        world.carts.add(key, "phone", "MUG", 1)
    with cart_keepers(settings) as (keeper,):
        keeper.writer.write_waiting()
        in_valkey(world, behind, carts.add(world.carts.view(behind).cart, "laptop~1", "PEN", 1, 2))
        good = world.valkey.states([unreadable])[unreadable]
        world.server.client.hset(KEY + unreadable.text, "state", b"?")
        rounds = CartRounds()
        compare_and_tell(keeper, rounds, 0.0)
        seen = sightings.waiting_sightings(settings.control_dsn)
        assert {(one.copy, one.aggregate_id) for one in seen} == {
            (CART.name, behind.cart_id),
            (CART.name, unreadable.cart_id),
        }
        assert {pairs_for(one) for one in seen} == {("oltp_cart",)}
        # What stays different is told again after a while, and what is mended and comes again at once.
        told = []
        for now, is_mended in ((20.0, False), (TOLD_AGAIN_SECONDS, False), (320.0, True), (340.0, False)):
            world.server.client.hset(KEY + unreadable.text, "state", good if is_mended else b"?")
            compare_and_tell(keeper, rounds, now)
            told.append(len(sightings.waiting_sightings(settings.control_dsn)))
        assert told == [2, 4, 4, 5]
        assert quantities(keeper.durable.load(behind) or Cart()) == {"MUG": 1}, "only a repair merges"
        monkeypatch.setattr(stack_settings, "load_settings", lambda: settings)
        shown = CliRunner().invoke(app, ["carts", "--json"])
        assert (shown.exit_code, json.loads(shown.stdout)["pods"][0]["verdict"]) == (1, "inconsistent")


def test_a_cart_that_waits_is_late_and_one_that_was_put_aside_is_told(
    world: CartsWorld, shop: Shop, settings: Settings, valkey_url: str
) -> None:
    key = new_key()
    world.carts.add(key, "phone", "MUG", 1)
    found = compared(world, shop)
    assert (found.verdict, found.waiting, found.undecided) == (Verdict.LATE, 1, (key,))
    assert "1 not written to the other store yet" in found.sentence
    settings = replace(settings, pods=(replace(shop.settings, pod=world.pod.pod),), carts_url=valkey_url)
    watch = CartWatch(settings=settings)
    watch.look_once()
    assert watch.troubles == ()
    world.valkey.put_aside(key, world.pod.pod)
    watch.look_once()
    (trouble,) = watch.troubles
    assert trouble.needs_person and key.cart_id in trouble.sentence
