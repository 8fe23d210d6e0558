"""Damages of the search index: documents missing, extra, stale or changed, an index emptied, positions moved.

They are made as a stranger would: with the engine, past the store's rules. Belongs here: these damages and their
required outcomes, grouped by round. Does not belong here: damages of read models (`drills/damages/read_models.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from contracts.verdicts import DifferenceClass as Class
from derived.search.documents import PRODUCTS, ROOTS, ListedProduct
from derived.search.folders import PodFolder, base_folder
from derived.search.writing import PodWriting
from drills.damages import read_models
from drills.damages.place import WHOLE, Damage, Harm, Place, Target, back, harm
from drills.damages.read_models import GHOST
from streams.projection import Position

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "search"
BEYOND_CUTS = 1_000_000
BACK_CUTS = 3


@contextmanager
def index(place: Place) -> Iterator[PodWriting]:
    """Open the index of the place's pod to write; what was done is committed at the end."""
    opened = PodWriting(PodFolder(base_folder(place.settings), place.pod))
    opened.lock()
    try:
        yield opened
        opened.commit(is_announced=False)
    finally:
        opened.abandon()


def of_product(change: Callable[[ListedProduct], ListedProduct]) -> Damage:
    """Return the damage that changes the document of one product."""

    def do(place: Place) -> Harm:
        target = place.take("product")
        with index(place) as opened:
            opened.put(PRODUCTS, change(_row(opened, target)))
        return harm(target)

    return do


def lose_document(place: Place) -> Harm:
    """Delete the document of a product."""
    target = place.take("product")
    with index(place) as opened:
        opened.remove(target.key)
    return harm(target)


def add_document(place: Place) -> Harm:
    """Add a product that nobody has: a copy of another one with a new id."""
    like = place.take("product")
    with index(place) as opened:
        opened.put(PRODUCTS, msgspec.structs.replace(_row(opened, like), product_id=GHOST))
    return harm(Target(kind="product", merchant_id=like.merchant_id, aggregate_id=GHOST, traits=frozenset()))


def lose_merchant(place: Place) -> Harm:
    """Delete the document of a merchant, whose shoppers then find nothing."""
    target = place.take("merchant")
    with index(place) as opened:
        opened.remove(target.key)
    return harm(target)


def empty(place: Place) -> Harm:
    """Delete all products and merchants; the position stays."""
    with index(place) as opened:
        for root in ROOTS:
            opened.empty(root, ())
    return WHOLE


def move(by: Callable[[int], int]) -> Damage:
    """Return the damage that moves the position of every partition; the documents stay."""

    def do(place: Place) -> Harm:
        with index(place) as opened:
            _move(opened, by)
        return WHOLE

    return do


def _move(opened: PodWriting, by: Callable[[int], int]) -> None:
    for number, one in list(opened.books.positions.items()):
        opened.books.move(one.epoch, {number: Position(cut=max(by(one.cut), 0), chunk=0)}, one.data_at)


def _row(opened: PodWriting, target: Target) -> ListedProduct:
    row = opened.row(target.key)
    if row is None:
        raise LookupError(f"{target.key} has no document")
    return msgspec.json.decode(row, type=ListedProduct)


def _older(row: ListedProduct) -> ListedProduct:
    return msgspec.structs.replace(row, version=row.version - 1)


def _dearer(row: ListedProduct) -> ListedProduct:
    first, *others = row.variants
    price = (first.unit_price_micro or 0) + 1
    return msgspec.structs.replace(row, variants=[msgspec.structs.replace(first, unit_price_micro=price), *others])


def _changed(**values: Any) -> Damage:
    return of_product(lambda row: msgspec.structs.replace(row, **values))


_in_rows, _in_all = partial(read_models.in_rows, NAME), partial(read_models.in_all, NAME)

CELLS = {
    "rows": (
        _in_rows("document missing", lose_document, Class.MISSING),
        _in_rows("document extra", add_document, Class.EXTRA),
        _in_rows("document stale", of_product(_older), Class.STALE),
        _in_rows("price changed by one micro-unit", of_product(_dearer), Class.AMOUNT),
        _in_rows("right version, wrong title", _changed(title="Another thing"), Class.DIFFERENT),
        _in_rows("merchant missing", lose_merchant, Class.MISSING),
    ),
    "views, first": (
        _in_all("index emptied", empty, Class.MISSING),
        back(NAME, move(lambda cut: cut - BACK_CUTS), f"lake_{NAME}", pod=1),
    ),
    "views, second": (
        _in_all("position beyond every cut", move(lambda cut: cut + BEYOND_CUTS), Class.DIFFERENT, pod=1),
    ),
}
"""The cells by round."""
