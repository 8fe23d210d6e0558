"""The page of a product, from its pod and through the cache: what it shows, and that every change shows up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import psycopg
import pytest
import redis

from contracts.assembled import Assembled, merchant_tag, product_tag, variant_tag
from contracts.errors import CacheUnavailableError, PodFencedError
from contracts.ids import uuid7
from contracts.ownership import ANSWER_CACHE
from contracts.settings import Settings
from derived.answer_cache.following import AnswerCacheProjection
from derived.answer_cache.kinds import PRODUCT_PAGE
from derived.answer_cache.reading import AnswerReader, Source
from derived.answer_cache.valkey_cache import ValkeyAnswerCache
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import build_command_pod
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.set_price import SetPrice
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.reads.product_page import read_product_page
from oltp.reads.products import ProductPage
from reconcile import sightings
from stack.composition.projections import observed_projection
from stack.composition.sampling import compare_samples
from streams.consumer import Consumer
from streams.draining import drain_pod
from streams.logs import build_log
from tests.integration import shop as shops
from tests.integration.shop import LOCATION, MERCHANT, Shop

SECONDS = 30.0


@dataclass(kw_only=True)
class Storefront:
    """A shop whose pages are read through the cache; the cache follows the log when asked to."""

    shop: Shop
    settings: Settings
    cache: ValkeyAnswerCache
    reader: AnswerReader
    loads: int = 0

    @property
    def pod(self) -> str:
        return self.settings.pods[0].pod

    @property
    def cached(self) -> Settings:
        """The settings with the cache, which is on the log's server here."""
        return replace(self.settings, cache_url=self.settings.log_url)

    def product_of(self, sku: str) -> str:
        ((product_id,),) = self.shop.query(
            "select product_id::text from oltp.variants where variant_id = %s", self.shop.variants[sku]
        )
        return str(product_id)

    def load(self, product_id: str) -> Assembled:
        self.loads += 1
        with psycopg.connect(self.settings.pods[0].app_dsn) as connection:
            return read_product_page(connection, MERCHANT, product_id, directory_epoch=1)

    def page(self, product_id: str) -> tuple[ProductPage | None, Source]:
        """Return the page, and where it is from."""
        key = PRODUCT_PAGE.key(self.pod, MERCHANT, 1, product_id)
        served = self.reader.read(PRODUCT_PAGE, key, lambda: self.load(product_id))
        return (msgspec.json.decode(served.body, type=ProductPage) if served.body else None), served.source

    def publish(self) -> int:
        """Publish what is committed, and let the cache follow; return the cut."""
        drain_pod(self.settings.pods[0], self.settings)
        with (
            closing(AnswerCacheProjection(self.cache_of_its_own(), build_log(self.settings))) as projection,
            closing(build_log(self.settings)) as log,
        ):
            return Consumer(projection, self.pod, log).drain().applied_cut

    def cache_of_its_own(self) -> ValkeyAnswerCache:
        return ValkeyAnswerCache(self.settings.log_url, answer_seconds=SECONDS)


@pytest.fixture
def store(settings: Settings) -> Iterator[Storefront]:
    cache = ValkeyAnswerCache(settings.log_url, answer_seconds=SECONDS)
    with build_command_pod(settings.pods[0], clock=lambda: shops.NOW) as pod:
        shop = shops.open_shop(pod, settings.pods[0])
        reader = AnswerReader(cache, draw=lambda: 0.0)
        store = Storefront(shop=shop, settings=settings, cache=cache, reader=reader)
        store.publish()
        yield store
        reader.close()
        cache.close()


def test_a_page_shows_what_the_pod_has_and_says_as_of_which_cut(store: Storefront) -> None:
    mug = store.product_of("MUG")
    store.shop.place(("MUG", 3))
    answer = store.load(mug)
    assert answer.body is not None
    page = msgspec.json.decode(answer.body, type=ProductPage)
    (variant,) = page.variants
    assert (page.product_id, page.version, page.title, page.kind) == (mug, 1, "Mug", "goods")
    assert (variant.sku, variant.unit_price_micro, variant.available_quantity) == ("MUG", 4_990_000, 97)
    assert (page.currency, page.is_active) == ("GBP", True)
    assert answer.tags == (merchant_tag(MERCHANT), product_tag(mug), variant_tag(variant.variant_id))
    ((cut, epoch),) = store.shop.query("select cut, epoch from oltp.cuts order by cut desc limit 1")
    assert (answer.cut, answer.epoch) == (cut, epoch)
    service, _ = store.page(store.product_of("GIFTWRAP"))
    assert service is not None and service.variants[0].available_quantity is None


def test_nobody_sees_a_page_that_is_not_there_or_of_a_merchant_who_lives_elsewhere(store: Storefront) -> None:
    assert store.load(str(uuid7())).body is None
    mug = store.product_of("MUG")
    with psycopg.connect(store.settings.pods[0].app_dsn) as connection:
        assert read_product_page(connection, MERCHANT, mug, directory_epoch=1).body is not None
        for merchant_id, directory_epoch in (("nobody", 1), (MERCHANT, 2)):
            with pytest.raises(PodFencedError):
                read_product_page(connection, merchant_id, mug, directory_epoch=directory_epoch)


def _price(store: Storefront) -> None:
    store.shop.do(SetPrice(merchant_id=MERCHANT, variant_id=store.shop.variants["MUG"], unit_price_micro=5_990_000))


def _retitle(store: Storefront) -> None:
    variant = VariantInput(variant_id=store.shop.variants["MUG"], sku="MUG", title="Cup", unit_price_micro=4_990_000)
    store.shop.do(
        UpsertProduct(merchant_id=MERCHANT, product_id=store.product_of("MUG"), title="Cup", variants=[variant])
    )


def _configure(store: Storefront) -> None:
    store.shop.do(ConfigureMerchant(merchant_id=MERCHANT, is_active=False))


def _order(store: Storefront) -> None:
    store.shop.place(("MUG", 1))


def _ship(store: Storefront) -> None:
    order = store.shop.place(("MUG", 2))
    store.shop.authorize(order)
    store.shop.fulfill(order)


def _cancel(store: Storefront) -> None:
    store.shop.cancel(store.shop.place(("MUG", 1)))
    store.shop.place(("MUG", 4))


CHANGES = (_price, _retitle, _order, _ship, _cancel, _configure)


def test_every_change_of_a_page_shows_up_and_other_pages_stay(store: Storefront) -> None:
    mug, pin = store.product_of("MUG"), store.product_of("PIN")
    for change in CHANGES:
        before, _ = store.page(mug)
        store.page(pin)
        change(store)
        assert store.page(mug) == (before, Source.CACHE), "the change is not applied yet"
        store.publish()
        fresh = store.load(mug).body
        after, source = store.page(mug)
        assert source is Source.OLTP and after != before, change.__name__
        assert fresh is not None and after == msgspec.json.decode(fresh, type=ProductPage)
        assert store.page(mug) == (after, Source.CACHE)
        assert store.page(pin)[1] is (Source.OLTP if change is _configure else Source.CACHE), change.__name__


def test_a_page_that_was_not_there_shows_up(store: Storefront) -> None:
    product_id = str(uuid7())
    assert store.page(product_id) == (None, Source.OLTP) and store.page(product_id) == (None, Source.CACHE)
    variant = VariantInput(variant_id=str(uuid7()), sku="NEW", title="New", unit_price_micro=1_000_000)
    store.shop.do(UpsertProduct(merchant_id=MERCHANT, product_id=product_id, title="New", variants=[variant]))
    store.publish()
    page, source = store.page(product_id)
    assert source is Source.OLTP and page is not None and page.variants[0].available_quantity == 0


def test_a_page_that_was_read_before_a_cut_is_refused_and_one_that_was_read_after_stays(store: Storefront) -> None:
    mug = store.product_of("MUG")
    key = PRODUCT_PAGE.key(store.pod, MERCHANT, 1, mug)

    def load_while_a_change_passes() -> Assembled:
        answer = store.load(mug)
        _price(store)
        store.publish()
        return answer

    served = store.reader.read(PRODUCT_PAGE, key, load_while_a_change_passes)
    assert served.body is not None and b"4990000" in served.body
    page, source = store.page(mug)
    assert source is Source.OLTP and page is not None and page.variants[0].unit_price_micro == 5_990_000
    # Read after the commit and before the cut: the cut does not make it old, but the cache cannot know that.
    _order(store)
    ahead = store.load(mug)
    assert ahead.body is not None and b'"available_quantity":99' in ahead.body


def test_the_cache_begins_at_the_end_of_the_log_where_it_cannot_go_on(store: Storefront) -> None:
    mug = store.product_of("MUG")
    with closing(AnswerCacheProjection(store.cache_of_its_own(), build_log(store.settings))) as projection:
        applied = projection.state(store.pod)
        assert min(position.cut for position in applied.positions.values()) == store.publish()
        for name in store.cache._client.keys("{tieout-answers:*"):
            store.cache._client.delete(name)
        _price(store)
        drain_pod(store.settings.pods[0], store.settings)
        with (
            closing(observed_projection("answer_cache", store.cached)) as observed,
            pytest.raises(CacheUnavailableError, match="has no position of pod1"),
        ):
            observed.state(store.pod)
        again = projection.state(store.pod)
    following = store.cache.following(store.pod)
    assert following is not None and again.positions == following.positions
    assert following.since_cut == store.load(mug).cut
    assert [store.page(mug)[1] for _ in range(2)] == [Source.OLTP, Source.CACHE]


def test_the_cache_goes_on_from_where_it_was(store: Storefront) -> None:
    generation = store.cache.following(store.pod)
    _order(store)
    cut = store.publish()
    following = store.cache.following(store.pod)
    assert generation is not None and following is not None
    assert following.generation == generation.generation
    assert {position.cut for position in following.positions.values()} == {cut}


def test_an_answer_with_an_old_cut_that_somebody_puts_back_is_not_served(store: Storefront) -> None:
    mug = store.product_of("MUG")
    store.page(mug)
    client = store.cache._client
    (name,) = client.keys("{tieout-answers:*:v:*")
    old: dict[Any, Any] = client.hgetall(name)
    _price(store)
    store.publish()
    store.page(mug)
    client.delete(name)
    client.hset(name, mapping=old)
    page, source = store.page(mug)
    assert source is Source.OLTP and page is not None and page.variants[0].unit_price_micro == 5_990_000


def test_stock_at_every_place_counts(store: Storefront) -> None:
    lines = [StockInput(variant_id=store.shop.variants["MUG"], quantity=5)]
    store.shop.do(ReceiveStock(merchant_id=MERCHANT, location_id=f"{LOCATION}-2", lines=lines, reason="more"))
    page, _ = store.page(store.product_of("MUG"))
    assert page is not None and page.variants[0].available_quantity == 105


def test_a_sample_finds_what_no_load_has_made_and_tells_the_reconciler(store: Storefront) -> None:
    products = {sku: store.product_of(sku) for sku in ("MUG", "PIN", "PEN", "GIFTWRAP")}
    store.shop.place(("MUG", 1), ("GIFTWRAP", 1))
    store.publish()
    sightings.migrate(store.settings.control_dsn)
    for product_id in (*products.values(), str(uuid7())):
        store.page(product_id)

    def findings() -> tuple[dict[str, int], list[str]]:
        sampled = compare_samples(store.cached)[0]
        counts = {str(name): count for name, count in sampled.counts.items()}
        return counts, [name.subject for name in sampled.different]

    assert findings() == ({"same": 5}, [])
    _price(store)
    assert findings() == ({"same": 4, "changed": 1}, []), "it is changed, and no cut has told the cache so"
    store.publish()
    assert findings() == ({"same": 4}, []), "what is not good any more is not compared"
    # An answer with a present cut and another price: only a comparison can find it.
    client = redis.Redis.from_url(store.settings.log_url)
    (name,) = client.keys(f"{{tieout-answers:*:v:*{products['PEN']}")
    body = client.hget(name, "bytes")
    assert isinstance(body, bytes)
    client.hset(name, "bytes", body.replace(b'"unit_price_micro":1000,', b'"unit_price_micro":1,'))
    page, source = store.page(products["PEN"])
    assert source is Source.CACHE and page is not None and page.variants[0].unit_price_micro == 1
    for _ in range(2):
        assert findings() == ({"same": 3, "different": 1}, [products["PEN"]])
    (seen,) = sightings.waiting_sightings(store.settings.control_dsn)
    assert (seen.copy, seen.aggregate_id) == (ANSWER_CACHE.name, products["PEN"])
    (name,) = client.keys(f"{{tieout-answers:*:v:*{products['GIFTWRAP']}")
    client.hset(name, "bytes", b"no page")
    assert set(findings()[1]) == {products["PEN"], products["GIFTWRAP"]}
    client.close()
