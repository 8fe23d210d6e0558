"""Searching over HTTP: hits with what matched, facets, pages, how new the index is, and nothing of other merchants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.declaring import Role
from api.pods import Pods
from api.positions import HEADER, Position, token_of
from contracts.ids import uuid7
from derived.keyed.rows import Content
from derived.search.documents import PRODUCTS, ListedProduct, ListedVariant
from derived.search.folders import base_folder
from derived.search.store import SearchStore
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.directory import Placement
from tests.integration.api.conftest import RIVAL, Asked
from tests.integration.api.indexing import index_everything
from tests.integration.shop import LOCATION, MERCHANT


@pytest.fixture(scope="module")
def indexed(asked: Asked) -> int:
    for merchant_id, title in ((MERCHANT, "Mug with a lantern"), (MERCHANT, "Storm lantern"), (RIVAL, "Rival lantern")):
        command = UpsertProduct(
            merchant_id=merchant_id,
            product_id=str(uuid7()),
            title=title,
            variants=[
                VariantInput(variant_id=str(uuid7()), sku=title, title=title, unit_price_micro=3_000_000 + len(title))
            ],
        )
        asked.services.pods.execute(command, idempotency_key=str(uuid7()))
    return index_everything(asked.settings)


def search(asked: Asked, query: dict[str, Any], **options: Any) -> Any:
    return asked.ask("GET", "/v1/search", params=query, **options)


def test_hits_say_what_matched_and_how_new_the_index_is(asked: Asked, indexed: int) -> None:
    answer = search(asked, {"q": "lantrens"})
    found = answer.json()
    assert answer.status_code == 200 and found["corrections"] == {"lantrens": "lantern"}
    titles = {item["title"]["text"]: item["title"]["ranges"] for item in found["items"]}
    assert titles == {
        "Mug with a lantern": [{"begin": 11, "end": 18}],
        "Storm lantern": [{"begin": 6, "end": 13}],
    }
    assert found["total"] == 2
    (variant,) = found["items"][0]["variants"]
    assert variant["unit_price_micro"] == 3_000_000 + len(found["items"][0]["title"]["text"])
    assert answer.headers["Tieout-Source"] == "search" and answer.headers["Tieout-Applied-Cut"] == f"pod1:{indexed}"
    assert float(answer.headers["Tieout-Data-Age"]) >= 0


def test_a_merchant_finds_its_own_only(asked: Asked, indexed: int) -> None:
    for role in (Role.STOREFRONT, Role.ADMIN):
        rival = search(asked, {"q": "lantern"}, role=role, merchant_id=RIVAL).json()
        assert [item["title"]["text"] for item in rival["items"]] == ["Rival lantern"]
        own = search(asked, {"q": "", "limit": 100, "facets": "brand"}, role=role).json()
        assert "Rival lantern" not in json.dumps(own) and own["total"] == len(own["items"]) > 2
        assert [one["value"] for one in own["facets"]["brand"]] == ["Potter"]


def test_pages_follow_each_other_and_a_cursor_is_bound_to_its_search(asked: Asked, indexed: int) -> None:
    whole = search(asked, {"sort": "price_ascending", "limit": 100}).json()
    ids, after = [], None
    while True:
        page = search(asked, {"sort": "price_ascending", "limit": 2, **({"after": after} if after else {})}).json()
        ids += [item["product_id"] for item in page["items"]]
        if (after := page["next"]) is None:
            break
    assert ids == [item["product_id"] for item in whole["items"]] and len(ids) == whole["total"]
    first = search(asked, {"q": "lantern", "limit": 1}).json()["next"]
    assert search(asked, {"q": "lantern", "limit": 1, "after": first}).status_code == 200
    for other in ({"q": "mug"}, {"q": "lantern", "sort": "price_ascending"}):
        assert search(asked, {**other, "after": first}).status_code == 400
    assert search(asked, {"q": "lantern", "after": first}, merchant_id=RIVAL).status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        {"filters": "no json"},
        {"filters": '{"color": "red"}'},
        {"filters": '{"color": []}'},
        {"filters": '{"": ["red"]}'},
        {"price_min_micro": "-1"},
        {"sort": "newest"},
        {"limit": "0"},
        {"limit": "101"},
        {"q": "a" * 1_001},
        {"facets": ",".join(f"a{number}" for number in range(21))},
    ],
)
def test_what_cannot_be_searched_is_refused_in_words(asked: Asked, indexed: int, query: dict[str, str]) -> None:
    answer = search(asked, query)
    assert answer.status_code == 400 and answer.json()["detail"].endswith(".")


def test_filters_and_price_ranges(asked: Asked, indexed: int) -> None:
    assert search(asked, {"filters": '{"color": ["red"]}'}).json()["total"] == 0
    price = 3_000_000 + len("Storm lantern")
    found = search(asked, {"price_min_micro": price, "price_max_micro": price}).json()
    assert [item["title"]["text"] for item in found["items"]] == ["Storm lantern"]


def test_suggestions(asked: Asked, indexed: int) -> None:
    answer = asked.ask("GET", "/v1/suggestions", params={"q": "storm la"})
    assert answer.json() == {"suggestions": ["storm lantern"]} and answer.headers["Tieout-Source"] == "search"
    assert asked.ask("GET", "/v1/suggestions", params={"q": "riv"}).json() == {"suggestions": []}


def test_a_search_with_a_position_holds_the_write_or_is_refused(asked: Asked, indexed: int) -> None:
    product_id = str(uuid7())
    command = UpsertProduct(merchant_id=MERCHANT, product_id=product_id, title="Quill", variants=[])
    done = asked.services.pods.execute(command, idempotency_key=str(uuid7()))
    assert done.position is not None
    headers = {HEADER: token_of(asked.services.tokens, done.position)}
    refused = search(asked, {"q": "quill"}, headers=headers)
    assert refused.status_code == 503, refused.text
    index_everything(asked.settings)
    assert search(asked, {"q": "quill"}, headers=headers).status_code == 200
    elsewhere = Position(pod="pod9", lsn=done.position.lsn, xid=1)
    refused = search(asked, {"q": "quill"}, headers={HEADER: token_of(asked.services.tokens, elsewhere)})
    assert refused.status_code == 503


def put(asked: Asked, product_id: str, **body: Any) -> Any:
    return asked.ask("PUT", f"/v1/products/{product_id}", Role.ADMIN, json=body)


def test_what_an_admin_writes_of_a_product_is_on_its_page_and_found(asked: Asked, indexed: int) -> None:
    product_id, variant_id = str(uuid7()), str(uuid7())
    variant = {"variant_id": variant_id, "sku": "KETTLE", "title": "Kettle", "unit_price_micro": 29_000_000}
    colors = [{"name": "color", "value": "green"}, {"name": "since", "value": "2026-01-31T00:00:00Z"}]
    texts = {"brand": "Whistler", "body": "Boils water for four cups.", "attributes": colors}
    answer = put(asked, product_id, title="Kettle", variants=[variant], **texts)
    assert answer.status_code == 200, answer.text
    assert put(asked, product_id, title="Kettle, enamelled").status_code == 200
    page = asked.ask("GET", f"/v1/products/{product_id}", Role.ADMIN).json()
    assert (page["brand"], page["body"]) == (texts["brand"], texts["body"])
    assert page["attributes"] == {one["name"]: one["value"] for one in colors}
    synonyms = [{"words": "teapot warmer", "means": "kettle"}]
    assert asked.ask("PATCH", "/v1/merchant", Role.ADMIN, json={"synonyms": synonyms}).status_code == 200
    index_everything(asked.settings)

    for text in ("kettle", "whistler", "boiling", "green", "teapot warmer"):
        (found,) = search(asked, {"q": text}).json()["items"]
        assert found["product_id"] == product_id and found["brand"] == "Whistler", text
        assert found["attributes"] == page["attributes"]
    filtered = {"filters": json.dumps({"brand": ["Whistler"], **{one["name"]: [one["value"]] for one in colors}})}
    counted = search(asked, {**filtered, "facets": "brand,color,since"}).json()
    assert counted["total"] == 1 and counted["facets"] == {
        "brand": [{"value": "Whistler", "hits": 1}],
        "color": [{"value": "green", "hits": 1}],
        "since": [{"value": "2026-01-31T00:00:00Z", "hits": 1}],
    }
    assert search(asked, {"q": "teapot warmer"}, merchant_id=RIVAL).json()["total"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"attributes": [{"name": "brand", "value": "x"}]},
        {"attributes": [{"name": f"n{number}", "value": "x"} for number in range(65)]},
        {"brand": "x" * 101},
        {"body": "x" * 10_001},
    ],
)
def test_a_text_beyond_its_limit_is_refused_in_one_sentence(asked: Asked, indexed: int, body: dict[str, Any]) -> None:
    answer = put(asked, str(uuid7()), title="Kettle", **body)
    assert answer.status_code == 400 and answer.json()["detail"].endswith("."), answer.text


def test_what_is_listed_but_gone_says_so_on_its_page_and_cannot_be_bought(asked: Asked, indexed: int) -> None:
    def make(title: str) -> tuple[str, dict[str, Any]]:
        variant = {"variant_id": str(uuid7()), "sku": title, "title": title, "unit_price_micro": 5_000_000}
        product_id = str(uuid7())
        assert put(asked, product_id, title=title, variants=[variant]).status_code == 200
        return product_id, variant

    def buy(sku: str) -> Any:
        lines = [{"sku": sku, "quantity": 1}]
        body = {"lines": lines, "location_id": LOCATION, "customer_id": "c1", "payment_token": "tok_card"}
        return asked.ask("POST", "/v1/checkouts", json=body)

    sold_out, last = make("Gramophone needle")
    hidden, one = make("Gramophone horn")
    received = {"location_id": LOCATION, "lines": [{"variant_id": last["variant_id"], "quantity": 1}]}
    assert asked.ask("POST", "/v1/stock/receipts", Role.ADMIN, json=received).status_code == 201
    index_everything(asked.settings)
    assert buy(last["sku"]).status_code == 201
    assert put(asked, hidden, title=one["title"], is_active=False).status_code == 200

    listed = {item["product_id"] for item in search(asked, {"q": "gramophone"}).json()["items"]}
    assert listed == {sold_out, hidden}, "the index is behind, or does not know of stock"
    pages = {item: asked.ask("GET", f"/v1/products/{item}").json() for item in listed}
    assert pages[sold_out]["is_active"] and pages[sold_out]["variants"][0]["available_quantity"] == 0
    assert not pages[hidden]["is_active"] and not pages[hidden]["variants"][0]["is_active"]
    for sku, problem in ((last["sku"], "insufficient-stock"), (one["sku"], "conflict")):
        refused = buy(sku)
        assert refused.status_code == 409 and refused.json()["type"] == f"/problems/{problem}", refused.text
    index_everything(asked.settings)
    assert {item["product_id"] for item in search(asked, {"q": "gramophone"}).json()["items"]} == {sold_out}


def test_of_a_merchant_that_has_moved_every_index_is_asked(
    asked: Asked, indexed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    came_back = Placement(merchant_id=MERCHANT, pod="pod1", epoch=3)
    monkeypatch.setattr(Pods, "names", ["pod1", "pod2"])
    monkeypatch.setattr(asked.services.pods, "placement", lambda _merchant_id: came_back)
    assert search(asked, {"q": "lantern"}).status_code == 503, "half an answer would mislead"
    left = ListedProduct(
        merchant_id=MERCHANT,
        product_id=str(uuid7()),
        pod="pod2",
        epoch="e",
        version=1,
        directory_epoch=2,
        title="Lantern left in pod 2",
        kind="goods",
        tax_category="standard",
        is_active=True,
        variants=[ListedVariant(variant_id=str(uuid7()), sku="LEFT", title="", is_active=True, unit_price_micro=1)],
    )
    with SearchStore(base_folder(asked.settings)).transaction() as session:
        session.lock_positions("pod2", [0])
        session.write(PRODUCTS, Content(rows=[left], children=[], absent=[]))
    answer = search(asked, {"q": "lantern"})
    assert {item["title"]["text"] for item in answer.json()["items"]} == {
        "Mug with a lantern",
        "Storm lantern",
        "Lantern left in pod 2",
    }
    assert answer.json()["total"] == 3 and answer.headers["Tieout-Applied-Cut"].startswith("pod1:")
    typed = asked.ask("GET", "/v1/suggestions", params={"q": "lantern lef"})
    assert typed.json() == {"suggestions": ["lantern left"]}


def test_a_facet_that_is_named_twice_counts_once_and_a_filter_names_a_value(asked: Asked, indexed: int) -> None:
    once, twice = (search(asked, {"facets": facets}, role=Role.ADMIN).json() for facets in ("brand", "brand,brand"))
    assert once["facets"]["brand"][0]["hits"] <= once["total"] and twice["facets"] == once["facets"]
    for name in ("brand", "color"):
        refused = search(asked, {"filters": json.dumps({name: []})})
        assert refused.status_code == 400 and f"{name!r} names no value" in refused.json()["detail"]
