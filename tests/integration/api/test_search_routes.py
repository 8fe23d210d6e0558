"""Searching over HTTP: hits with what matched, facets, pages, how new the index is, and nothing of other merchants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.declaring import Role
from api.positions import HEADER, Position, token_of
from contracts.ids import uuid7
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from tests.integration.api.conftest import RIVAL, Asked
from tests.integration.api.indexing import index_everything
from tests.integration.shop import MERCHANT


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
        assert own["facets"] == {"brand": []}


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
