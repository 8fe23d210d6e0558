"""Random damages of what serves shoppers and merchants: search documents, carts, cached answers, webhook notes.

These stores hold documents and states, and not rows that SQL changes; so each is changed in its own way: any value
that the store's comparison claims to read gets another one. Belongs here: such damages. Does not belong here: those of
tables (`bench/random_damages.py`), damages that are made one by one (`drills/damages/`).

Not damaged here, because no comparison claims it: in the index the terms that were made of a text, `pod` and `epoch` of
a row; of a note when and how often it was sent; of a cart its token, of an answer its cut and its generation (their
damages are in the matrix).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg

from bench.random_damages import Change, made
from contracts.settings import Settings
from derived.search.documents import PRODUCTS, ROOTS
from derived.search.positions import rows_of_kind
from derived.search.schema import open_any
from drills.damages.answer_cache import shelf
from drills.damages.cart import basket
from drills.damages.place import Place
from drills.damages.search import index
from drills.damages.webhooks import noted_endpoint
from stack.composition.comparison import build_reconcile_context
from stack.composition.damaging import place_of

SEARCH, CARTS, CACHE, WEBHOOKS = "search", "cart", "answer_cache", "webhooks"
STORES = (SEARCH, CARTS, CACHE, WEBHOOKS)
FOUND_BY = {
    SEARCH: {"lake_search"},
    CARTS: {"oltp_cart"},
    CACHE: {"oltp_answer_cache", "lake_floors"},
    WEBHOOKS: {"lake_webhooks"},
}
"""Store -> the families of pairs that can find a damage there."""

KEYS = frozenset({"merchant_id", "product_id", "aggregate_id", "variant_id", "pod", "epoch"})
"""Names in documents and answers that say whose they are, and where they came from."""
NOTE_COLUMNS = ("merchant_id", "aggregate_type", "aggregate_id", "event_type", "cut", "state")
NOTES = """
select event_id, to_jsonb(d) - 'body' from webhooks.deliveries as d
where endpoint_id = %s and state <> 'withdrawn' order by event_id
"""
WITHDRAWN = "withdrawn"
WITHDRAW = """
update webhooks.deliveries set state = 'withdrawn', body = null, acknowledged_at = null
where endpoint_id = %s and event_id = %s
"""

Leaf = tuple[tuple[Any, ...], Any]
"""Where a value stands in a document, and the value."""


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[Leaf]:
    """Yield every value of a document that is no key."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name not in KEYS:
                yield from leaves(value, (*path, name))
    elif isinstance(document, list):
        for place, value in enumerate(document):
            yield from leaves(value, (*path, place))
    elif document is not None:
        yield path, document


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a document with another value at a place."""
    if not path:
        return value
    first, *rest = path
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[first] = changed(document[first], tuple(rest), value)
    return copy


def other(dice: random.Random, value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + dice.randint(1, 500)
    return f"{value}x"


@dataclass(kw_only=True)
class ServingDamages:
    """Damages of the stores that serve; a place gives out each aggregate once."""

    settings: Settings
    places: dict[str, Place] = field(default_factory=dict)

    def ways(self) -> Mapping[str, Callable[[random.Random], Change | None]]:
        """Return store -> what makes one damage there; None: it has nothing that could be changed."""
        there = {SEARCH: self._search, WEBHOOKS: self._webhooks}
        there |= {CARTS: self._carts} if self.settings.carts_url else {}
        return there | ({CACHE: self._cache} if self.settings.cache_url else {})

    def _place(self, dice: random.Random) -> Place:
        pod = dice.choice(self.settings.pods).pod
        if pod not in self.places:
            self.places[pod] = place_of(self.settings, pod)
        return self.places[pod]

    def _search(self, dice: random.Random) -> Change | None:
        place, root = self._place(dice), dice.choice(ROOTS)
        context = build_reconcile_context(self.settings)
        folder = None if context.search_index is None else context.search_index(place.pod)
        rows = [] if folder is None else sorted(rows_of_kind(open_any(folder).searcher(), root.aggregate_type))
        if not rows:
            return None
        chosen = dice.choice(rows)
        document = msgspec.json.decode(chosen)
        path, before = dice.choice(list(leaves(document)))
        after = other(dice, before)
        row = msgspec.convert(changed(document, path, after), root.row_type)
        with index(place) as opened:
            opened.put(root, row)
        whose = {name: document.get(name) for name in ("merchant_id", "product_id", "aggregate_id")}
        table = "products" if root is PRODUCTS else "merchants"
        return made(SEARCH, place.pod, f"{table}.{_named(path)}", str(before), str(after), whose)

    def _carts(self, dice: random.Random) -> Change | None:
        with basket(self._place(dice)) as cart:
            cart.add("MUG")
            state = json.loads(cart.state())
            numbers = [(path, value) for path, value in leaves(state) if isinstance(value, int)]
            path, before = dice.choice(numbers)
            after = before + dice.randint(1, 500)
            cart.forge(json.dumps(changed(state, path, after), separators=(",", ":")).encode())
            whose = {"merchant_id": cart.key.merchant_id, "cart_id": cart.key.cart_id}
            return made(CARTS, cart.place.pod, f"valkey.{_named(path)}", str(before), str(after), whose)

    def _cache(self, dice: random.Random) -> Change | None:
        with shelf(self._place(dice)) as page:
            answer = json.loads(page.body())
            path, before = dice.choice(list(leaves(answer)))
            after = other(dice, before)
            body = json.dumps(changed(answer, path, after), separators=(",", ":"))
            page.server.hset(page.name, "bytes", body)
            whose = {"merchant_id": page.target.merchant_id, "product_id": page.target.aggregate_id}
            return made(CACHE, page.place.pod, f"answer.{_named(path)}", str(before), str(after), whose)

    def _webhooks(self, dice: random.Random) -> Change | None:
        place = self._place(dice)
        with psycopg.connect(self.settings.control_dsn, autocommit=True) as connection:
            endpoint_id = noted_endpoint(place, connection, place.take("order"))
            notes = connection.execute(NOTES, (endpoint_id,)).fetchall()
            if not notes:
                return None
            (event_id, note), column = dice.choice(notes), dice.choice(NOTE_COLUMNS)
            before = note[column]
            after = WITHDRAWN if column == "state" else other(dice, before)
            if column == "state":
                connection.execute(WITHDRAW, (endpoint_id, event_id))
            else:
                statement = f"update webhooks.deliveries set {column} = %s where endpoint_id = %s and event_id = %s"
                connection.execute(statement.encode(), (after, endpoint_id, event_id))
        whose = {name: note[name] for name in ("endpoint_id", "event_id", "merchant_id", "aggregate_id")}
        return made(WEBHOOKS, place.pod, f"deliveries.{column}", str(before), str(after), whose)


def _named(path: tuple[Any, ...]) -> str:
    return "/".join(str(part) for part in path)
