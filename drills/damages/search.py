"""Damages of the search index: documents missing, extra, stale or changed, positions moved, events parked.

They are made as a stranger would: with the engine, past the store's rules. Belongs here: these damages and their
required outcomes, grouped by round. Does not belong here: damages of read models (`drills/damages/read_models.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
from tantivy import Document

from contracts.clock import utc_now
from contracts.verdicts import DifferenceClass as Class
from derived.lake_reads import read_events
from derived.search import schema
from derived.search.documents import PRODUCTS, ROOTS, ListedProduct
from derived.search.folders import PodFolder, base_folder
from derived.search.store import SearchStore
from derived.search.writing import PodWriting, Stand
from drills.damages import read_models
from drills.damages.place import WHOLE, Cell, Damage, Harm, Place, Target, back, harm, until
from drills.damages.read_models import GHOST, KEYS
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.upsert_product import UpsertProduct
from repair.values import ActionKind
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


def _lose(kind: str) -> Damage:
    """Return the damage that deletes the document of one aggregate."""

    def do(place: Place) -> Harm:
        target = place.take(kind)
        with index(place) as opened:
            opened.remove(target.key)
        return harm(target)

    return do


lose_document = _lose("product")
lose_merchant = _lose("merchant")
"""Its shoppers then find nothing."""


def add_document(place: Place) -> Harm:
    """Add a product that nobody has: a copy of another one with a new id."""
    like = place.take("product")
    with index(place) as opened:
        opened.put(PRODUCTS, msgspec.structs.replace(_row(opened, like), product_id=GHOST))
    return harm(Target(kind="product", merchant_id=like.merchant_id, aggregate_id=GHOST, traits=frozenset()))


def spoil_document(place: Place) -> Harm:
    """Write a document of a product that nobody can read."""
    target = place.take("product")
    made = Document()
    for name, value in ((schema.KEY, target.key), (schema.KIND, target.kind), (schema.MERCHANT, target.merchant_id)):
        made.add_text(name, value)
    made.add_boolean(schema.IS_OFFERED, True)
    made.add_bytes(schema.ROW, b'{"title": ')
    with index(place) as opened:
        opened.replace(target.key, made, Stand(0, 0, "", ""))
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


def move_forward(place: Place) -> Harm:
    """Move the position past an event that the index has not applied: a product more."""
    like = place.take("product")
    with index(place) as opened:  # the consumer waits for this lock until the product is in the lake
        with build_command_pod(place.settings.pod(place.pod), control_dsn=place.settings.control_dsn) as pod:
            made = UpsertProduct(merchant_id=like.merchant_id, product_id=str(pod.new_uuid()), title="Passed over")
            execute(pod, made, idempotency_key=f"damage/{made.product_id}")
        cut = place.tools.newest_cut(place.pod)
        until(lambda: place.lake_cut() >= cut, f"Cut {cut} in the lake of {place.pod}")
        _move(opened, lambda _: cut)
    return WHOLE


def park_events(place: Place) -> Harm:
    """Park all events of a product an hour ago, as if the index had refused the first of them; its document is gone."""
    target = place.take("product")
    key = (target.merchant_id, target.aggregate_id)
    store = SearchStore(base_folder(place.settings), clock=lambda: utc_now() - timedelta(hours=1))
    with store.transaction() as session, place.lake() as lake:
        positions = {number: at for number, (_, at) in session.lock_positions(place.pod, []).items()}
        events = read_events(lake, place.pod, [target.key], positions).read_all().to_pylist()
        session.delete(PRODUCTS, [key], place.pod)
        events.sort(key=itemgetter("aggregate_version"))
        session.park(place.pod, events, "This version of the index cannot store it.")
    return harm(target)


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
        _in_rows("document that nobody can read", spoil_document, Class.MISSING),
        _in_rows("document stale", of_product(_older), Class.STALE),
        _in_rows("price changed by one micro-unit", of_product(_dearer), Class.AMOUNT),
        _in_rows("right version, wrong title", _changed(title="Another thing"), Class.DIFFERENT),
        # A merchant's next event writes it again, and trade changes a merchant's settings now and then.
        replace(_in_rows("merchant missing", lose_merchant, Class.MISSING), may_mend_itself=True),
    ),
    "views, first": (
        _in_all("index emptied", empty, Class.MISSING),
        back(NAME, move(lambda cut: cut - BACK_CUTS), f"lake_{NAME}", pod=1),
    ),
    "views, second": (
        Cell(
            damage="position moved forward",
            store=NAME,
            do=move_forward,
            named={f"lake_{NAME}": frozenset({Class.MISSING})},
            may_also_be=frozenset({Class.STALE, Class.DIFFERENT, Class.AMOUNT, Class.EXTRA}),
            actions=KEYS,
        ),
        # Events that came meanwhile are not applied, so their products are behind until it is rebuilt.
        replace(
            _in_all("position beyond every cut", move(lambda cut: cut + BEYOND_CUTS), Class.DIFFERENT, pod=1),
            may_also_be=frozenset({Class.STALE, Class.MISSING, Class.AMOUNT, Class.EXTRA}),
        ),
    ),
    "poison": (
        Cell(
            damage="events parked, others behind them",
            store=NAME,
            do=park_events,
            named={f"lake_{NAME}": frozenset({Class.PARKED})},
            actions=(ActionKind.REPLAY_PARKED,),
        ),
    ),
}
"""The cells by round."""
