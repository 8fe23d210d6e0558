"""Product pages through the cache over HTTP: where an answer is from, and that nothing is charged by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import httpx
import pytest
import redis

from api.app import build_app
from api.declaring import Role
from api.positions import HEADER, Position, token_of
from api.services import build_services
from contracts.waiting import wait_until
from derived.answer_cache.following import build
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.set_price import SetPrice
from reconcile.cached_answers import Finding, compare_answers
from stack.composition.answers import held_answers
from stack.servers.valkey import EmbeddedValkey
from streams.consumer import Consumer
from streams.draining import drain_pod
from streams.logs import build_log
from tests.integration import shop as shops
from tests.integration.api.conftest import PEPPER, Asked
from tests.integration.api.indexing import index_everything


@pytest.fixture(scope="module")
def cached(asked: Asked, valkey_server: EmbeddedValkey) -> Iterator[Asked]:
    """The same interface in another process's place, with a cache."""
    with redis.Redis.from_url(valkey_server.url()) as server:
        server.flushall()
    settings = replace(asked.settings, cache_url=valkey_server.url(database=1))
    services = build_services(settings, PEPPER)
    transport = httpx.ASGITransport(build_app(services), raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://tieout")
    with asyncio.Runner() as runner:
        yield replace(asked, client=client, runner=runner, services=services, settings=settings)
        runner.run(client.aclose())
    services.close()


def follow(asked: Asked) -> None:
    """Publish what is committed, and let the cache follow."""
    drain_pod(asked.settings.pods[0], asked.settings)
    with closing(build(asked.settings)) as projection, closing(build_log(asked.settings)) as log:
        Consumer(projection, "pod1", log).drain()


def product_of(asked: Asked, sku: str) -> str:
    ((product_id,),) = asked.shop.query(
        "select product_id::text from oltp.variants where variant_id = %s", asked.shop.variants[sku]
    )
    return str(product_id)


def test_a_page_comes_from_the_cache_until_it_is_touched_and_the_order_pays_todays_price(cached: Asked) -> None:
    follow(cached)
    path = f"/v1/products/{product_of(cached, 'PIN')}"

    def page(role: Role = Role.STOREFRONT, headers: dict[str, str] | None = None) -> tuple[Any, str]:
        answer = cached.ask("GET", path, role, headers=headers or {})
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        assert int(answer.headers["age"]) >= 0
        return answer.json(), answer.headers["tieout-source"]

    first, source = page()
    assert source == "oltp" and page() in [(first, "cache"), (first, "process")]
    wait_until(
        lambda: page()[1] == "process", timeout_seconds=20, failure=lambda: "The process never held the page itself."
    )
    price = SetPrice(merchant_id=shops.MERCHANT, variant_id=cached.shop.variants["PIN"], unit_price_micro=777_000)
    cached.shop.do(price)
    now, source = page(Role.ADMIN)
    assert source == "oltp" and now["variants"][0]["unit_price_micro"] == 777_000
    token = token_of(cached.services.tokens, Position(pod="pod1", lsn="0/1", xid=1))
    assert page(headers={HEADER: token})[1] == "oltp"
    assert cached.ask("GET", path, headers={HEADER: "made up"}).status_code == 400
    stale, source = page()
    assert source != "oltp" and stale == first, "the cache does not know of the price yet"
    # The page still shows the old price. Whoever orders pays the new one.
    order = cached.shop.place(("PIN", 2))
    assert order.lines[0].unit_price_micro == 777_000
    follow(cached)
    wait_until(
        lambda: page()[0]["variants"][0]["unit_price_micro"] == 777_000,
        timeout_seconds=20,
        failure=lambda: "The new price never showed.",
    )


def test_without_its_cache_a_page_is_put_together_and_an_unknown_one_is_not_found(cached: Asked) -> None:
    unknown = f"/v1/products/{'0' * 8}-0000-7000-8000-{'0' * 12}"
    assert [cached.ask("GET", unknown).status_code for _ in range(2)] == [404, 404]
    with redis.Redis.from_url(cached.settings.cache_url) as server:
        server.flushall()
    answer = cached.ask("GET", f"/v1/products/{product_of(cached, 'MUG')}")
    assert answer.status_code == 200 and answer.headers["tieout-source"] == "oltp"


def test_a_first_page_of_a_search_is_kept_at_the_cut_of_the_index_until_a_product_changes(cached: Asked) -> None:
    follow(cached)
    indexed = index_everything(cached.settings)
    follow(cached)

    def found(role: Role = Role.STOREFRONT, **more: Any) -> tuple[Any, str, str]:
        answer = cached.ask("GET", "/v1/search", role, params={"q": "", "limit": 100, "facets": "brand", **more})
        assert answer.status_code == 200 and float(answer.headers["tieout-data-age"]) >= 0
        return answer.json(), answer.headers["tieout-source"], answer.headers["tieout-applied-cut"]

    first, source, cut = found()
    assert source == "search" and cut == f"pod1:{indexed}" and found()[1] in ("cache", "process")
    assert (found()[0], found()[2]) == (first, cut) and found(Role.ADMIN) == (first, "search", cut)
    assert found(sort="price_ascending")[1] == "search", "another question is another answer"
    dearer = SetPrice(merchant_id=shops.MERCHANT, variant_id=cached.shop.variants["MUG"], unit_price_micro=888_000)
    cached.shop.do(dearer)
    follow(cached)  # the floor is set, and the index is behind: nothing that it says is kept
    wait_until(lambda: found()[1] == "search", timeout_seconds=20, failure=lambda: "The old page stayed.")
    assert found()[1] == "search"
    index_everything(cached.settings)
    wait_until(
        lambda: "888000" in json.dumps(found()[0]), timeout_seconds=20, failure=lambda: "The price never showed."
    )
    wait_until(lambda: found()[1] in ("cache", "process"), timeout_seconds=20, failure=lambda: "It was never kept.")


def test_a_merchants_configuration_is_kept_until_it_is_changed(cached: Asked) -> None:
    follow(cached)

    def shown(role: Role = Role.STOREFRONT) -> tuple[Any, str, str]:
        answer = cached.ask("GET", "/v1/merchant", role)
        assert answer.status_code == 200
        return answer.json(), answer.headers["tieout-source"], answer.headers["etag"]

    first, source, etag = shown()
    assert source == "oltp" and shown()[1] in ("cache", "process") and shown(Role.ADMIN) == (first, "oltp", etag)
    cached.shop.do(ConfigureMerchant(merchant_id=shops.MERCHANT, name="Another name"))
    assert shown(Role.ADMIN)[0]["name"] == "Another name"
    follow(cached)
    wait_until(
        lambda: shown()[0]["name"] == "Another name", timeout_seconds=20, failure=lambda: "The name never showed."
    )


def test_every_kind_of_answer_is_compared(cached: Asked) -> None:
    product_id = product_of(cached, "MUG")
    index_everything(cached.settings)
    follow(cached)

    def kinds(finding: Finding) -> set[str]:
        for path in (f"/v1/products/{product_id}", "/v1/merchant", "/v1/search"):
            assert cached.ask("GET", path).status_code == 200
        with held_answers(cached.settings, "pod1") as held:
            names = list(held.names())
            good = held.good(names)
            answers = [(name, good[name.text]) for name in names if name.text in good]
        compared = compare_answers(cached.settings.pods[0].reader_dsn, answers)
        return {name.kind for (name, _), one in zip(answers, compared, strict=True) if one is finding}

    assert kinds(Finding.SAME) == {"product_page", "merchant", "search_page"}
    with redis.Redis.from_url(cached.settings.cache_url) as server:
        for name in server.keys("{tieout-answers:*}:v:*"):
            body = server.hget(name, "bytes")
            assert isinstance(body, bytes)
            forged = body.replace(b'"unit_price_micro":', b'"unit_price_micro":1').replace(
                b'"rate_ppm":', b'"rate_ppm":1'
            )
            server.hset(name, "bytes", forged)
    assert kinds(Finding.DIFFERENT) == {"product_page", "merchant", "search_page"}
