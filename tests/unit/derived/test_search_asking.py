"""What shoppers find in the index: words and their forms, errors, phrases, synonyms, filters, counts, places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from contracts.errors import InputError, PropagationError
from derived.keyed.rows import Content
from derived.search.asking import Question, Search, Sort, answer, suggestions
from derived.search.documents import (
    MERCHANTS,
    PRODUCTS,
    ListedMerchant,
    ListedProduct,
    ListedSynonym,
    ListedVariant,
)
from derived.search.queries import Filters
from derived.search.readers import PodReader, Seen
from derived.search.store import SearchStore
from derived.search.vocabulary import correction, parts

POD = "pod1"


def merchant(name: str, *, jurisdiction: str = "GB", is_active: bool = True) -> ListedMerchant:
    return ListedMerchant(
        merchant_id=name,
        aggregate_id=name,
        pod=POD,
        epoch="e",
        version=1,
        name=name,
        currency="GBP",
        is_active=is_active,
        jurisdiction=jurisdiction,
    )


def product(
    merchant_id: str,
    number: int,
    title: str,
    *,
    prices: tuple[int | None, ...] = (5_000_000,),
    is_active: bool = True,
    brand: str = "",
    body: str = "",
    attributes: dict[str, str] | None = None,
) -> ListedProduct:
    variants = [
        ListedVariant(
            variant_id=f"v{number}-{at}", sku=f"SKU{number}-{at}", title="", is_active=True, unit_price_micro=one
        )
        for at, one in enumerate(prices)
    ]
    return ListedProduct(
        merchant_id=merchant_id,
        product_id=f"p{number}",
        pod=POD,
        epoch="e",
        version=1,
        title=title,
        kind="goods",
        tax_category="standard",
        is_active=is_active,
        variants=variants,
        brand=brand,
        body=body,
        attributes=attributes or {},
    )


SHOP = [
    product("shop", 1, "White hanging lantern", prices=(3_390_000,), brand="Lumen", attributes={"color": "white"}),
    product(
        "shop", 2, "Red hanging lantern", prices=(9_000_000, 2_000_000), brand="Lumen", attributes={"color": "red"}
    ),
    product(
        "shop", 3, "Red umbrella", prices=(None,), brand="Regen & Co", attributes={"color": "red", "size.cm": "90"}
    ),
    product(
        "shop", 4, "Doormat", prices=(10**18,), body="A mat of coir for the front door. " * 12 + "Lanterns are not it."
    ),
    product("shop", 5, "Lantern of old", is_active=False),
    product("shop", 6, "T-light holder", prices=(1_000_000,)),
]
OTHERS = [
    product("other", 7, "Red lantern of another shop", brand="Secret", attributes={"color": "secret"}),
    product("closed", 8, "Red lantern of a closed shop"),
    product("laden", 9, "Große Häuser"),
]
ALL_MERCHANTS = [
    merchant("shop"),
    merchant("other"),
    merchant("closed", is_active=False),
    merchant("laden", jurisdiction="DE-BY"),
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    base: Path = tmp_path_factory.mktemp("search")
    with SearchStore(base).transaction() as session:
        session.lock_positions(POD, [0])
        session.write(MERCHANTS, Content(rows=ALL_MERCHANTS, children=[], absent=[]))
        session.write(PRODUCTS, Content(rows=[*SHOP, *OTHERS], children=[], absent=[]))
    return PodReader(base, POD).seen()


Found = Callable[..., list[str]]


@pytest.fixture
def found(seen: Seen) -> Found:
    def ask(text: str = "", merchant_id: str = "shop", **more: object) -> list[str]:
        question = replace(Question(merchant_id=merchant_id, text=text), **more)  # type: ignore[arg-type]
        return [hit.product.product_id for hit in answer(seen, question).hits]

    return ask


def test_all_words_must_be_there_in_any_form_and_the_better_field_counts(found: Found) -> None:
    assert set(found("lanterns")) == {"p1", "p2", "p4"}
    assert found("lanterns")[-1] == "p4", "a word in the title weighs more than in the description"
    assert found("red LANTERN")[0] == "p2"
    assert found("the lumen") and set(found("the lumen")) == {"p1", "p2"}, "stop words are left out"
    assert found("SKU3-0") == ["p3"]


def test_what_has_only_some_words_comes_behind_and_the_answer_says_so(seen: Seen) -> None:
    some = answer(seen, Question(merchant_id="shop", text="red umbrella"))
    assert [hit.product.product_id for hit in some.hits] == ["p3", "p2"] and some.is_relaxed
    assert not answer(seen, Question(merchant_id="shop", text="umbrella")).is_relaxed


@pytest.mark.parametrize(("typed", "meant"), [("lantren", "lantern"), ("umbrela", "umbrella"), ("hangnig", "hanging")])
def test_a_mistyped_word_is_replaced_and_the_answer_says_by_what(seen: Seen, typed: str, meant: str) -> None:
    corrected = answer(seen, Question(merchant_id="shop", text=typed))
    assert corrected.corrections == {typed: meant} and corrected.hits
    assert all(hit.title.ranges for hit in corrected.hits if hit.product.product_id != "p4")


def test_corrections_are_by_fewest_edits_then_frequency_and_take_longer_words_two_edits() -> None:
    words = {"lantern": 3, "lanterns": 1, "eastern": 9, "umbrella": 1, "cup": 4, "cap": 9}
    assert correction("lanterm", words) == "lantern"
    assert correction("cip", {"cup": 4, "cap": 9, "clip": 1}) == "cap", "one edit each, the more frequent one"
    assert correction("umbrlela", words) == "umbrella" and correction("unbrelka", words) == "umbrella"
    assert correction("lxntxrn", words) is None and correction("cu", words) is None


def test_joined_words_are_found_apart_and_words_apart_joined(found: Found) -> None:
    assert parts("doormat", {"door": 2, "mat": 1}) == ("door", "mat") and parts("matter", {"mat": 1}) is None
    assert found("door mat") == ["p4"]
    assert set(found("redumbrella")) >= {"p3"}


def test_a_phrase_is_found_in_this_order_only(found: Found) -> None:
    assert found('"hanging lantern"')[:2] and set(found('"hanging lantern"')) == {"p1", "p2"}
    assert found('"lantern hanging"') == []


def test_synonyms_are_a_merchants_own(found: Found, tmp_path: Path) -> None:
    assert found("tealight") == []
    said = [("Tealight", "t-light"), ("tea light", "T-LIGHT"), ("tea light", "candle holder")]
    shops = [
        msgspec.structs.replace(
            merchant("shop"), version=2, synonyms=[ListedSynonym(words=words, means=means) for words, means in said]
        ),
        merchant("other"),
    ]
    with SearchStore(tmp_path).transaction() as session:
        session.lock_positions(POD, [0])
        session.write(MERCHANTS, Content(rows=shops, children=[], absent=[]))
        named = [product("shop", 6, "T-light glass"), product("shop", 7, "Candle holder, brass")]
        session.write(PRODUCTS, Content(rows=[*named, product("other", 6, "T-light glass")], children=[], absent=[]))
    seen = PodReader(tmp_path, POD).seen()

    def of(shop: str, text: str) -> list[str]:
        return [hit.product.product_id for hit in answer(seen, Question(merchant_id=shop, text=text)).hits]

    assert of("shop", "tealight") == ["p6"] and of("other", "tealight") == []
    assert set(of("shop", "tea light")) == {"p6", "p7"}
    assert of("shop", "t-light") == ["p6"], "the other way round it is no synonym"


def test_filters_are_exact_and_change_no_score(seen: Seen, found: Found) -> None:
    assert set(found(filters=Filters(attributes={"color": ["red"]}))) == {"p2", "p3"}
    assert set(found(filters=Filters(attributes={"color": ["red", "white"]}, brands=["Lumen"]))) == {"p1", "p2"}
    assert found(filters=Filters(attributes={"size.cm": ["90"]})) == ["p3"]
    assert found(filters=Filters(brands=["lumen"])) == [], "a brand is written as in the product"
    assert set(found(filters=Filters(price_micro_min=2_000_000, price_micro_max=3_390_000))) == {"p1", "p2"}
    free = answer(seen, Question(merchant_id="shop", text="lantern"))
    bound = answer(seen, Question(merchant_id="shop", text="lantern", filters=Filters(price_micro_max=4_000_000)))
    scores = {hit.product.product_id: hit.score for hit in free.hits}
    assert {hit.product.product_id: hit.score for hit in bound.hits} == {name: scores[name] for name in ("p1", "p2")}


def test_facets_count_all_hits_of_the_merchant(seen: Seen) -> None:
    counted = answer(seen, Question(merchant_id="shop", facets=["brand", "color", "size.cm", "none"], limit=1))
    assert counted.total == 5 and len(counted.hits) == 1
    assert counted.facets["brand"] == [("Lumen", 2), ("Regen & Co", 1)]
    assert counted.facets["color"] == [("red", 2), ("white", 1)]
    assert counted.facets["size.cm"] == [("90", 1)] and counted.facets["none"] == []


def test_prices_sort_exactly_by_the_lowest_offered_price_and_what_has_none_comes_last(found: Found) -> None:
    assert found(sort=Sort.PRICE_ASCENDING) == ["p6", "p2", "p1", "p4", "p3"]
    assert found(sort=Sort.PRICE_DESCENDING) == ["p4", "p1", "p2", "p6", "p3"]
    assert found(sort=Sort.PRICE_ASCENDING, offset=2, limit=2) == ["p1", "p4"]
    assert found(filters=Filters(price_micro_min=10**18)) == ["p4"]


@pytest.mark.parametrize(("offset", "limit"), [(0, 0), (0, 101), (-1, 10), (995, 10)])
def test_pages_are_bounded(offset: int, limit: int) -> None:
    with pytest.raises(InputError, match="page"):
        Question(merchant_id="shop", offset=offset, limit=limit)


def test_nothing_of_another_merchant_is_ever_told(seen: Seen, found: Found) -> None:
    hostile = [
        "secret",
        "merchant_id:other",
        'red" OR merchant_id:other',
        "* red lantern another",
        "p7",
        "SKU7-0",
        "+other -shop",
        "#position",
    ]
    for text in hostile:
        assert not {"p7", "p8", "p9"} & set(found(text)), text
    told = answer(seen, Question(merchant_id="shop", text="secrat anothre", facets=["brand", "color"]))
    assert not told.corrections, "another's words correct nothing"
    assert "secret" not in str(told.facets) and "Secret" not in str(told.facets)
    assert suggestions(seen, "shop", "ano") == [] and suggestions(seen, "other", "ano") == ["another"]
    assert found(filters=Filters(brands=["Secret"])) == []
    assert found("", merchant_id="") == [] and found("", merchant_id="*") == []


def test_a_merchant_that_does_not_trade_has_no_hits(found: Found) -> None:
    assert found("lantern", merchant_id="closed") == [] and found("lantern", merchant_id="unknown") == []


def test_a_merchant_is_searched_in_its_language(found: Found) -> None:
    assert found("haus", merchant_id="laden") == ["p9"] and found("grosse", merchant_id="laden") == ["p9"]


def test_suggestions_complete_the_last_word_beside_the_others(seen: Seen) -> None:
    assert suggestions(seen, "shop", "l")[:2] == ["lantern", "light"] or "lantern" in suggestions(seen, "shop", "l")
    assert suggestions(seen, "shop", "red u") == ["red umbrella"] and suggestions(seen, "shop", "white u") == []
    assert suggestions(seen, "shop", "red ") == [] and suggestions(seen, "shop", "") == []


def test_places_of_matches_are_told_in_the_title_and_around_the_first_in_the_description(seen: Seen) -> None:
    (first,) = [
        h
        for h in answer(seen, Question(merchant_id="shop", text="hangs lanterns")).hits
        if h.product.product_id == "p1"
    ]
    assert [first.title.text[left:right] for left, right in first.title.ranges] == ["hanging", "lantern"]
    (mat,) = [
        h for h in answer(seen, Question(merchant_id="shop", text="lantern")).hits if h.product.product_id == "p4"
    ]
    assert len(mat.body.text) <= 200
    assert [mat.body.text[left:right] for left, right in mat.body.ranges] == ["Lanterns"]


def test_amounts_and_ids_are_exact(seen: Seen) -> None:
    (mat,) = answer(seen, Question(merchant_id="shop", text="doormat")).hits
    assert mat.product == SHOP[3]


def test_signs_alone_find_nothing_and_a_long_text_is_refused(found: Found) -> None:
    assert found("!?%") == [] and found('""') == []
    with pytest.raises(InputError, match="characters"):
        found("a" * 1_001)


def test_a_pod_without_an_index_is_an_error_not_an_empty_answer(tmp_path: Path) -> None:
    with pytest.raises(PropagationError, match="no search index"):
        Search(tmp_path).ask("pod9", Question(merchant_id="shop"))
