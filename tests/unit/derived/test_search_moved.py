"""Searching for a merchant that has moved: what it left behind is found, and of every product its latest document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.errors import PropagationError
from derived.keyed.rows import Content
from derived.search.asking import Answer, Question, Search, Sort, suggestions
from derived.search.documents import (
    MERCHANTS,
    PRODUCTS,
    ListedMerchant,
    ListedProduct,
    ListedSynonym,
    ListedVariant,
)
from derived.search.queries import Filters
from derived.search.store import SearchStore

PODS = ("pod1", "pod2")
COLORS = ("red", "white", "red", "black")


def product(number: int, title: str, pod: str, epoch: int, *, price: int = 5, is_active: bool = True) -> ListedProduct:
    variant = ListedVariant(
        variant_id=f"v{number}", sku=f"SKU{number}", title="", is_active=True, unit_price_micro=price
    )
    return ListedProduct(
        merchant_id="shop",
        product_id=f"p{number}",
        pod=pod,
        epoch="e",
        version=epoch,
        directory_epoch=epoch,
        title=title,
        kind="goods",
        tax_category="standard",
        is_active=is_active,
        variants=[variant],
        brand="Lumen",
        attributes={"color": COLORS[number % len(COLORS)]},
    )


def merchant(pod: str, epoch: int) -> ListedMerchant:
    return ListedMerchant(
        merchant_id="shop",
        aggregate_id="shop",
        pod=pod,
        epoch="e",
        version=epoch,
        directory_epoch=epoch,
        name="Shop",
        currency="GBP",
        is_active=True,
        jurisdiction="GB",
    )


def write(base: Path, pod: str, products: Sequence[ListedProduct], merchants: Sequence[ListedMerchant] = ()) -> None:
    with SearchStore(base).transaction() as session:
        session.lock_positions(pod, [0])
        session.write(MERCHANTS, Content(rows=list(merchants), children=[], absent=[]))
        session.write(PRODUCTS, Content(rows=list(products), children=[], absent=[]))


def ask(base: Path, text: str = "", home: str = "pod2", *, limit: int = 50, **options: Any) -> Answer:
    question = Question(merchant_id="shop", text=text, limit=limit, **options)
    return Search(base).ask(home, question, moved_among=PODS)


def found(answer: Answer) -> list[str]:
    return [hit.product.product_id for hit in answer.hits]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The shop left pod1 with six products; in pod2 one was renamed, one repriced, one taken off sale, one added."""
    lamps = [product(number, f"Lamp number {number}", "pod1", 1, price=10 + number) for number in range(6)]
    write(tmp_path, "pod1", lamps, [merchant("pod1", 1)])
    changed = [
        product(0, "Candle", "pod2", 2),
        product(1, "Lamp number 1", "pod2", 2, price=99),
        product(2, "Lamp number 2", "pod2", 2, is_active=False),
        product(6, "Lamp of the new pod", "pod2", 2, price=1),
    ]
    write(tmp_path, "pod2", changed)
    return tmp_path


def test_every_product_counts_once_and_as_it_was_last(base: Path) -> None:
    everything = ask(base)
    assert sorted(found(everything)) == ["p0", "p1", "p3", "p4", "p5", "p6"] and everything.total == 6
    lamps = ask(base, "lamps")
    assert sorted(found(lamps)) == ["p1", "p3", "p4", "p5", "p6"] and lamps.total == 5
    assert found(ask(base, "candle")) == ["p0"]
    assert (everything.pod, {hit.product.pod for hit in lamps.hits}) == ("pod2", set(PODS))


def test_order_pages_filters_and_counts_are_over_all(base: Path) -> None:
    dear = ask(base, "lamp", sort=Sort.PRICE_DESCENDING)
    assert found(dear) == ["p1", "p5", "p4", "p3", "p6"]
    pages = [found(ask(base, "lamp", sort=Sort.PRICE_ASCENDING, limit=2, offset=offset)) for offset in (0, 2, 4)]
    assert pages == [["p6", "p3"], ["p4", "p5"], ["p1"]]
    cheap = ask(base, "lamp", filters=Filters(price_micro_max=14))
    assert sorted(found(cheap)) == ["p3", "p4", "p6"] and cheap.total == 3
    counted = ask(base, "lamp", facets=["brand", "color"])
    assert counted.facets["brand"] == [("Lumen", 5)]
    assert dict(counted.facets["color"]) == {"white": 2, "black": 1, "red": 2}


def test_a_word_of_either_pod_is_known_and_corrected(base: Path) -> None:
    assert ask(base, "candle").corrections == {} and ask(base, "number").corrections == {}
    assert ask(base, "candel").corrections == {"candel": "candle"}
    assert ask(base, "numbre").corrections == {"numbre": "number"}
    search = Search(base)
    home, others = search.seen("pod2"), search.others("pod2", PODS)
    assert suggestions(home, "shop", "nu", others=others) == ["number"]
    assert suggestions(home, "shop", "ca", others=others) == ["candle"]
    assert suggestions(home, "shop", "lam", others=others) == ["lamp"]


def test_the_latest_word_of_the_merchant_itself_counts(base: Path) -> None:
    assert ask(base, "light").total == 0
    known = msgspec.structs.replace(merchant("pod2", 2), synonyms=[ListedSynonym(words="light", means="lamp")])
    write(base, "pod2", [], [known])
    assert ask(base, "light").total == 5
    write(base, "pod2", [], [msgspec.structs.replace(known, version=3, is_active=False)])
    assert ask(base).total == 0, "the old pod still says that it trades"


def test_a_merchant_that_came_back(base: Path) -> None:
    write(base, "pod1", [product(0, "Lamp again", "pod1", 3), product(7, "Lamp seven", "pod1", 3)])
    back = ask(base, "lamp", home="pod1")
    assert sorted(found(back)) == ["p0", "p1", "p3", "p4", "p5", "p6", "p7"]
    assert {hit.product.product_id: hit.product.directory_epoch for hit in back.hits} == {
        "p0": 3, "p1": 2, "p3": 1, "p4": 1, "p5": 1, "p6": 2, "p7": 3,
    }  # fmt: skip


def test_an_index_that_is_away_is_an_error_not_half_an_answer(base: Path) -> None:
    with pytest.raises(PropagationError, match="pod3 has no search index"):
        Search(base).ask("pod2", Question(merchant_id="shop"), moved_among=[*PODS, "pod3"])
    alone = Search(base).ask("pod1", Question(merchant_id="shop", limit=50))
    assert alone.total == 6, "without a move nothing else is asked"
