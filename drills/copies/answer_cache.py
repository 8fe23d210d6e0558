"""The cache of answers in drills: a shopper looks at a product's page, and orders at the price that it shows.

Belongs here: reading a page as the HTTP interface does, and what is done to the cache. Does not belong here: steps for
every copy (`drills/cells.py`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import psycopg

from contracts.carts import CartKey
from contracts.drills import Promise
from contracts.text import counted
from derived.answer_cache.caches import cache_at
from derived.answer_cache.kinds import PRODUCT_PAGE
from derived.answer_cache.reading import AnswerReader, Served, Source
from derived.answer_cache.valkey_cache import client_of
from drills import decisions, probes
from drills.answer import Answer
from drills.system import CACHE_SERVER
from drills.trading import LOCATION, SKU, Sale, merchant_of
from oltp.commands.check_out_cart import CheckOutCart, ConfirmedLine
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.reads.product_page import read_product_page

if TYPE_CHECKING:
    from drills.scene import Scene
    from drills.system import System

PRICE_MICRO, DEARER_MICRO = 1_990_000, 2_990_000
PRODUCT = "select product_id::text from oltp.variants where merchant_id = %s and sku = %s"
EPOCH = "select directory_epoch from oltp.residents where merchant_id = %s"
FREE = """
select (sum(on_hand) - sum(reserved))::bigint from oltp.stock_levels
where merchant_id = %s and variant_id = (select variant_id from oltp.variants where merchant_id = %s and sku = %s)
"""


def page(system: System, pod: str, sku: str = SKU) -> Served:
    """Return the page of the drill's product with a SKU, through the cache."""
    merchant_id = merchant_of(pod)
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(system.settings.pod(pod).reader_dsn, autocommit=True))
        (epoch,) = _one(connection, EPOCH, merchant_id)
        (product_id,) = _one(connection, PRODUCT, merchant_id, sku)
        cache = stack.enter_context(closing(cache_at(system.settings.cache_url)))
        reader = stack.enter_context(closing(AnswerReader(cache)))
        return reader.read(
            PRODUCT_PAGE,
            PRODUCT_PAGE.key(pod, merchant_id, epoch, product_id),
            lambda: read_product_page(connection, merchant_id, product_id, directory_epoch=epoch),
        )


def _one(connection: psycopg.Connection[Any], query: str, *bound: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), bound).fetchone()
    assert row is not None
    return tuple(row)


def shown(served: Served, name: str) -> Any:
    """Return a value of the only variant on a page."""
    (variant,) = json.loads(served.body or b"{}").get("variants", [{}])
    return variant.get(name)


def is_page_right(system: System, pod: str) -> bool:
    """Return whether the page says how much there is of the drill's goods, as OLTP does."""
    merchant_id = merchant_of(pod)
    with psycopg.connect(system.settings.pod(pod).reader_dsn) as connection:
        (free,) = _one(connection, FREE, merchant_id, merchant_id, SKU)
    return bool(shown(page(system, pod), "available_quantity") == free)


def ask(system: System, sale: Sale) -> Answer:
    """Look at the page of the goods of a sale."""
    served = page(system, sale.pod)
    facts = [str(shown(served, "unit_price_micro"))]
    return Answer(facts=facts, cut=served.cut, data_at=None, age_seconds=served.age_seconds)


def decide(scene: Scene) -> Callable[[Sale], Mapping[str, Callable[[], object]]]:
    """Sell a product in every pod; then make it dearer, and check out at the price that its cached page shows."""
    sku = f"CACHED-{uuid.uuid4().hex[:8]}"
    variants = {pod: _offer(scene, pod, sku) for pod in scene.pods}
    with closing(_carts(scene)) as shopper:
        keys = {pod: shopper.fill(pod, sku) for pod in scene.pods}
    for pod in scene.pods:
        scene.require(
            lambda pod=pod: page(scene.system, pod, sku).source is Source.CACHE,  # type: ignore[misc]
            f"the cache does not hold the page of {sku} in {pod}",
        )

    def make_dearer(sale: Sale) -> Mapping[str, Callable[[], object]]:
        scene.trader.do(sale.pod, _product(sale.pod, variants[sale.pod], sku, DEARER_MICRO))
        served = page(scene.system, sale.pod, sku)
        price = shown(served, "unit_price_micro")
        scene.note(
            Promise.SERVES_WHAT_IT_HAS,
            f"page in {sale.pod}",
            expected=f"{PRICE_MICRO}, from the cache",
            seen=f"{price}, from {served.source}",
            is_ok=price == PRICE_MICRO and served.source is Source.CACHE,
        )
        command = _checkout(sale.pod, keys[sale.pod], sku, price)
        return {"checking out at the price of the page": lambda: scene.trader.do(sale.pod, command)}

    return make_dearer


def _carts(scene: Scene) -> Any:
    from drills.copies.cart import Shopper

    return Shopper(settings=scene.system.settings)


def _offer(scene: Scene, pod: str, sku: str) -> str:
    variant_id = str(uuid.uuid4())
    scene.trader.do(pod, _product(pod, variant_id, sku, PRICE_MICRO))
    received = [StockInput(variant_id=variant_id, quantity=10)]
    scene.trader.do(pod, ReceiveStock(merchant_id=merchant_of(pod), location_id=LOCATION, lines=received))
    return variant_id


def _product(pod: str, variant_id: str, sku: str, price_micro: int) -> UpsertProduct:
    variant = VariantInput(variant_id=variant_id, sku=sku, title=sku, unit_price_micro=price_micro)
    return UpsertProduct(merchant_id=merchant_of(pod), product_id=variant_id, title=sku, variants=[variant])


def _checkout(pod: str, key: CartKey, sku: str, price_micro: int) -> CheckOutCart:
    return CheckOutCart(
        merchant_id=merchant_of(pod),
        cart_id=key.cart_id,
        number=1,
        confirmed=[ConfirmedLine(sku=sku, quantity=1, unit_price_micro=price_micro)],
        total_minor=price_micro // 10_000,
        order_number=f"DRILL-{uuid.uuid4().hex[:12]}",
        customer_id=None,
        location_id=LOCATION,
        source="drill",
    )


# What is done to the cache


def replay(scene: Scene) -> None:
    """Replay: the server is emptied while all goes on; pages come from OLTP, and fill the cache again."""
    states = scene.system.worker_states()
    _fill(scene)
    scene.breaks()
    with client_of(scene.system.settings.cache_url) as server:
        before = int(server.dbsize())
        server.flushall()
        scene.note(
            Promise.IS_GONE,
            "answer_cache",
            expected="something there before, no answer left",
            seen=f"{counted(before, 'key')} before, {_answers(server)} answers left",
            is_ok=before > 0 and _answers(server) == 0,
        )
    serves_pages(scene)
    probes.trade(scene)
    probes.comes_back(scene, states)
    _prove(scene)


def read_stale(scene: Scene) -> None:
    """Stale read: pages show old prices; a checkout at such a price is told the new one, and takes no money."""
    make_dearer = decide(scene)
    sales = [scene.trader.sell(pod) for pod in scene.pods]
    scene.stop_copy()
    for sale in sales:
        decisions.refuses(scene, sale.pod, make_dearer(sale))
    scene.start_copy()
    scene.prove()


def lose_server(scene: Scene) -> None:
    """Source outage: the server is away; pages are put together from OLTP, and selling goes on."""
    states = scene.system.worker_states()
    _fill(scene)
    scene.system.kill_server(CACHE_SERVER)
    scene.breaks()
    probes.trade(scene)
    probes.outage_is_reported(scene, scene.copy_states)
    serves_pages(scene)
    scene.system.start_server(CACHE_SERVER)
    probes.comes_back(scene, states)
    _prove(scene)


def serves_pages(scene: Scene) -> None:
    """Note whether every pod's page is served, with what OLTP says, although the cache has nothing."""
    for pod in scene.pods:
        try:
            served = page(scene.system, pod)
            seen, is_ok = f"{shown(served, 'available_quantity')} units, from {served.source}", served.body is not None
            is_ok = is_ok and is_page_right(scene.system, pod)
        except Exception as error:  # any exception means that the page was not served
            seen, is_ok = f"{type(error).__name__}: {error}", False
        scene.note(Promise.SERVES_WHAT_IT_HAS, f"page in {pod}", expected="as OLTP says", seen=seen, is_ok=is_ok)


def _prove(scene: Scene) -> None:
    """Catch up, fill the cache that has begun anew, so that there is something to compare, and prove as usual."""
    scene.catch_up()
    _fill(scene)
    scene.compare_equal()
    scene.count_sales()


def _fill(scene: Scene) -> None:
    for pod in scene.pods:
        page(scene.system, pod)


def _answers(server: Any) -> int:
    return sum(1 for _ in server.scan_iter("{tieout-answers:*}:v:*"))
