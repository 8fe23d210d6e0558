"""Searching a merchant's products, and completing what a shopper types: from the search index.

A hit says what the index knows, and how old that is. Whether a unit can be sold, the product's page says
(`api/routes/products.py`), and the command that takes it decides.

Belongs here: the routes, and the form of an answer. Does not belong here: searching (`derived/search/`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec

from api.calls import Answer, Call
from api.copy_headers import copy_headers
from api.cursors import position_after
from api.declaring import Criticality, Route, Work
from api.models import shows
from api.positions import HEADER as POSITION
from api.positions import position_of
from api.reading import wants_now
from api.roles import SELLERS
from contracts.assembled import Assembled, catalog_tag, merchant_tag
from contracts.clock import utc_now
from contracts.errors import InputError, PropagationError
from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.limits import AMOUNT_MICRO_MAX
from derived.answer_cache.reading import Served, Source
from derived.search.asking import (
    BRAND_FACET,
    DEPTH_MAX,
    PAGE_MAX,
    SUGGESTIONS_MAX,
    Hit,
    Question,
    Sort,
    answer,
    suggestions,
)
from derived.search.highlights import Highlighted
from derived.search.queries import QUERY_LONGEST, Filters
from derived.search.readers import Seen

WAIT_SECONDS = 2.0
"""How long a search waits for the index to hold the caller's own write."""
LOOK_SECONDS = 0.05
FILTERS_LONGEST = 4_000

Price = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MICRO_MAX)]


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched, and which page of it."""

    q: Annotated[str, msgspec.Meta(max_length=QUERY_LONGEST)] = ""
    """Words; those in double quotes must stand together. Empty: everything on offer."""
    filters: Annotated[str, msgspec.Meta(max_length=FILTERS_LONGEST)] = "{}"
    """A JSON object: attribute -> list of values, any of which a product must have; `brand` is one of them."""
    facets: Annotated[str, msgspec.Meta(max_length=FILTERS_LONGEST)] = ""
    """Attributes, separated by commas, whose values are counted over all hits."""
    price_min_micro: Price | None = None
    price_max_micro: Price | None = None
    sort: Sort = Sort.RELEVANCE
    after: str | None = None
    """The `next` of the page before; leave it out for the first page."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = 20


class SuggestionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a shopper has typed so far."""

    q: Annotated[str, msgspec.Meta(max_length=QUERY_LONGEST)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=SUGGESTIONS_MAX)] = SUGGESTIONS_MAX


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a text, in characters; an object, because generators of clients do not know tuples."""

    begin: int
    end: int


class Marked(msgspec.Struct, frozen=True, kw_only=True):
    """A text and what matched in it."""

    text: str
    ranges: list[Match]


class FoundVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A variant that was on offer when the index was written."""

    variant_id: str
    sku: str
    title: str
    unit_price_micro: int | None
    """In micro-units of the merchant's currency; null: not for sale at a catalog price."""


class FoundProduct(msgspec.Struct, frozen=True, kw_only=True):
    """A product that was found."""

    product_id: str
    title: Marked
    body: Marked
    """A part of the description, around the first match."""
    brand: str
    attributes: dict[str, str]
    variants: list[FoundVariant]
    score: float | None
    """How well it matches; null where the hits have another order."""


class FacetValue(msgspec.Struct, frozen=True, kw_only=True):
    """A value of an attribute, and how many hits have it."""

    value: str
    hits: int


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of hits."""

    items: list[FoundProduct]
    next: str | None
    """The cursor of the page after this one; null: this is the last page that can be had."""
    total: int
    facets: dict[str, list[FacetValue]]
    corrections: dict[str, str]
    """Word typed -> what was looked for instead, because no product has the word."""
    is_relaxed: bool
    """Few products have all words: behind them come some that have at least half."""


class KeptPage(msgspec.Struct, frozen=True, kw_only=True):
    """A first page as the cache keeps it."""

    data_at: datetime | None
    page: msgspec.Raw


class Suggestions(msgspec.Struct, frozen=True, kw_only=True):
    """What the shopper may be about to type, the most frequent first."""

    suggestions: list[str]


def search_products(call: Call) -> Answer:
    """Return what a search finds among the merchant's products on offer.

    Tieout-Applied-Cut and Tieout-Data-Age (seconds) say how new the index was when it was asked: a storefront may get a
    first page that was put together some seconds ago, until a product of the merchant changes. With Tieout-Position the
    answer holds the write that returned it; if the index is not there within two seconds, the answer is 503.
    """
    query: SearchQuery = call.query
    scope = ("search", call.merchant_id, _digest(query))
    after = position_after(call.services.cursors, scope, query.after)
    offset = int(after[0]) if after else 0
    if offset + query.limit > DEPTH_MAX:
        raise InputError(f"A search answers with its first {DEPTH_MAX:,} hits; narrow it by words or filters.")
    question = _question(call.merchant_id, query, offset)
    others = _others(call)
    # A cached page stands for one index; of a merchant that has moved there are several.
    if query.after is None and not wants_now(call) and not others:
        served = call.services.answers.search_page(
            call.merchant_id,
            f"{_digest(query)}.{query.limit}",
            lambda pod: _assembled(call, scope, question, call.services.search.seen(pod)),
        )
        if served is not None:
            return _of_cache(call, served)
    seen = _seen(call)
    return Answer(value=_page(call, scope, question, seen, others), headers=_headers(seen))


def _question(merchant_id: str, query: SearchQuery, offset: int) -> Question:
    return Question(
        merchant_id=merchant_id,
        text=query.q,
        filters=_filters(query),
        facets=[name.strip() for name in query.facets.split(",") if name.strip()],
        sort=query.sort,
        offset=offset,
        limit=query.limit,
    )


def _page(call: Call, scope: Sequence[str], question: Question, seen: Seen, others: Sequence[Seen]) -> SearchPage:
    """Ask one commit of the index, and those of the other pods that a moved merchant has left something in."""
    offset, limit, found = question.offset, question.limit, answer(seen, question, others)
    following = offset + len(found.hits)
    has_more = following < min(found.total, DEPTH_MAX - limit + 1)
    return SearchPage(
        items=[_shown(hit) for hit in found.hits],
        next=call.services.cursors.sign(msgspec.json.encode([*scope, str(following)])) if has_more else None,
        total=found.total,
        facets={
            name: [FacetValue(value=value, hits=hits) for value, hits in counted]
            for name, counted in found.facets.items()
        },
        corrections=dict(found.corrections),
        is_relaxed=found.is_relaxed,
    )


def _assembled(call: Call, scope: Sequence[str], question: Question, seen: Seen) -> Assembled:
    """Return a page as the cache keeps it. Its version is the cut that the index has applied."""
    kept = KeptPage(data_at=seen.data_at, page=msgspec.Raw(msgspec.json.encode(_page(call, scope, question, seen, ()))))
    tags = merchant_tag(call.merchant_id), catalog_tag(call.merchant_id)
    return Assembled(body=msgspec.json.encode(kept), epoch=seen.epoch, cut=seen.applied_cut, tags=tags)


def _of_cache(call: Call, served: Served) -> Answer:
    """Return a page that the cache kept, or that was put together for it just now."""
    kept = msgspec.json.decode(served.body or b"{}", type=KeptPage)
    source = "search" if served.source is Source.OLTP else str(served.source)
    pod = call.services.pods.placement(call.merchant_id).pod
    headers = copy_headers(source, pod=pod, cut=served.cut, age_seconds=_age(kept.data_at))
    return Answer(value=bytes(kept.page), headers=headers)


def suggest(call: Call) -> Answer:
    """Return words that complete what was typed, and that stand in a product beside the words before."""
    query: SuggestionQuery = call.query
    seen = _seen(call)
    found = suggestions(seen, call.merchant_id, query.q, limit=query.limit, others=_others(call))
    return Answer(value=Suggestions(suggestions=found), headers=_headers(seen))


def _seen(call: Call) -> Seen:
    """Return the commit of the index that is asked: one that holds the write in Tieout-Position."""
    pod, search = call.services.pods.home(call.merchant_id), call.services.search
    token = call.headers.get(POSITION.lower())
    seen = search.seen(pod.pod)
    if token is None:
        return seen
    position, until = position_of(call.services.tokens, token), time.monotonic() + WAIT_SECONDS
    # Cuts of one pod say nothing of another's transactions.
    while position.pod != pod.pod or not shows(pod, position, seen.applied_cut):
        if position.pod != pod.pod or time.monotonic() + LOOK_SECONDS > until:
            raise PropagationError("The search index does not hold this write yet; ask again, or without a position.")
        time.sleep(LOOK_SECONDS)
        seen = search.seen(pod.pod, cut_min=seen.applied_cut + 1)
    return seen


def _others(call: Call) -> list[Seen]:
    """Return the commits of the other pods, if the merchant has moved: what it left there is found, too."""
    placement = call.services.pods.placement(call.merchant_id)
    if placement.epoch == FIRST_DIRECTORY_EPOCH:
        return []
    return call.services.search.others(placement.pod, call.services.pods.names)


def _headers(seen: Seen) -> dict[str, str]:
    return copy_headers("search", pod=seen.pod, cut=seen.applied_cut, age_seconds=_age(seen.data_at))


def _age(data_at: datetime | None) -> float | None:
    return None if data_at is None else (utc_now() - data_at).total_seconds()


def _filters(query: SearchQuery) -> Filters:
    try:
        wanted = msgspec.json.decode(query.filters, type=dict[str, list[str]])
    except msgspec.MsgspecError as error:
        raise InputError(f"`filters` is no JSON object of lists of texts: {error}.") from None
    brands = wanted.pop(BRAND_FACET, None)
    if brands == []:
        raise InputError(f"The filter {BRAND_FACET!r} names no value.")
    return Filters(
        brands=brands or (),
        attributes=wanted,
        price_micro_min=query.price_min_micro,
        price_micro_max=query.price_max_micro,
    )


def _digest(query: SearchQuery) -> str:
    """Return what a cursor is bound to: the query without the page."""
    asked = msgspec.structs.replace(query, after=None, limit=1)
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:32]


def _shown(hit: Hit) -> FoundProduct:
    product = hit.product
    variants = [
        FoundVariant(variant_id=one.variant_id, sku=one.sku, title=one.title, unit_price_micro=one.unit_price_micro)
        for one in product.offered
    ]
    return FoundProduct(
        product_id=product.product_id,
        title=_marked(hit.title),
        body=_marked(hit.body),
        brand=product.brand,
        attributes=dict(product.attributes),
        variants=variants,
        score=hit.score,
    )


def _marked(text: Highlighted) -> Marked:
    return Marked(text=text.text, ranges=[Match(begin=begin, end=end) for begin, end in text.ranges])


ROUTES: tuple[Route, ...] = (
    Route(
        name="search_products",
        method="GET",
        path="/v1/search",
        summary="Search the merchant's products",
        handler=search_products,
        roles=SELLERS,
        criticality=Criticality.REPORT,
        work=Work.STOREFRONT,
        deadline_seconds=4.0,
        answer=SearchPage,
        query=SearchQuery,
        takes_position=True,
    ),
    Route(
        name="suggest",
        method="GET",
        path="/v1/suggestions",
        summary="Complete what a shopper types",
        handler=suggest,
        roles=SELLERS,
        criticality=Criticality.REPORT,
        work=Work.STOREFRONT,
        deadline_seconds=2.0,
        answer=Suggestions,
        query=SuggestionQuery,
        takes_position=True,
    ),
)
