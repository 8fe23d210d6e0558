"""The questions that pages ask of the index: a search with facets, and suggestions while a shopper types.

Every query is for one merchant. Belongs here: questions and answers as values. Does not belong here: building queries
(`queries.py`), which commits are read (`readers.py`) and what of them counts (`shares.py`), HTTP (`api/`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from tantivy import DocAddress, Occur, Order, Query, Searcher

from contracts.errors import InputError
from derived.search import queries, schema
from derived.search.documents import ListedProduct
from derived.search.highlights import Highlighted, fragment, highlighted
from derived.search.positions import row_of
from derived.search.queries import Clause, Filters
from derived.search.readers import PodReader, Seen
from derived.search.shares import Share, shares_of, trading, vocabulary_of
from derived.search.text import plain_words
from derived.search.vocabulary import correction, parts

PAGE_MAX = 100
"""Hits of one page."""
DEPTH_MAX = 1_000
"""The last hit that can be asked for: nobody reads further, and each page before costs again."""
FEW = 10
"""If fewer products have all words, those that have some come behind."""
FACETS_MAX = 20
FACET_VALUES_MAX = 50
"""Values of a facet, those with the most hits."""
SUGGESTIONS_MAX = 10
FACET_VALUES_READ = 10_000
BRAND_FACET = "brand"


class Sort(StrEnum):
    """The order of hits."""

    RELEVANCE = "relevance"
    PRICE_ASCENDING = "price_ascending"
    PRICE_DESCENDING = "price_descending"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A search."""

    merchant_id: str
    text: str = ""
    """What was typed; empty: everything that the filters let through."""
    filters: Filters = field(default_factory=Filters)
    facets: Sequence[str] = ()
    """`brand`, and names of attributes, whose values are counted over all hits."""
    sort: Sort = Sort.RELEVANCE
    offset: int = 0
    limit: int = 10
    cut_min: int = 0
    """The answer should know this cut of the pod; whether it does, its `applied_cut` says."""

    def __post_init__(self) -> None:
        """Refuse what costs too much."""
        if not (1 <= self.limit <= PAGE_MAX and self.offset >= 0 and self.offset + self.limit <= DEPTH_MAX):
            raise InputError(f"A page has 1 to {PAGE_MAX} hits, and the last one is at most hit {DEPTH_MAX:,}.")
        if len(self.facets) > FACETS_MAX:
            raise InputError(f"A search counts at most {FACETS_MAX} facets.")


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A product that was found."""

    product: ListedProduct
    score: float | None
    """How well it matches; None if the hits have another order."""
    title: Highlighted
    body: Highlighted


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a search found, all of it in one commit of the index."""

    hits: list[Hit]
    total: int
    facets: Mapping[str, list[tuple[str, int]]]
    """Facet -> (value, number of hits that have it), the most frequent first."""
    corrections: Mapping[str, str]
    """Word typed -> word, or two words, looked for instead, because no product has the first."""
    is_relaxed: bool
    """Few products have all words: they come first, and behind them what has at least half of the words."""
    pod: str
    applied_cut: int
    data_at: datetime | None


class Search:
    """Asks the indexes of all pods; one per process, any number of threads."""

    def __init__(self, base: Path, reader: Callable[[Path, str], PodReader] = PodReader) -> None:
        self._base = base
        self._make_reader = reader
        self._readers: dict[str, PodReader] = {}

    def seen(self, pod: str, *, cut_min: int = 0) -> Seen:
        """Return the commit of a pod's index that a question is asked of."""
        reader = self._readers.setdefault(pod, self._make_reader(self._base, pod))
        return reader.seen(cut_min=cut_min)

    def others(self, pod: str, pods: Sequence[str]) -> list[Seen]:
        """Return a commit of every other pod: of a merchant that has moved, each may have products."""
        return [self.seen(other) for other in pods if other != pod]

    def ask(self, pod: str, question: Question, *, moved_among: Sequence[str] = ()) -> Answer:
        """Return what the indexes have of a merchant's products; `pod` is where it lives.

        `moved_among`: if it has moved, all pods. Raises InputError, or PropagationError if an index is not there.
        """
        home = self.seen(pod, cut_min=question.cut_min)
        return answer(home, question, self.others(pod, moved_among))


def answer(seen: Seen, question: Question, others: Sequence[Seen] = ()) -> Answer:
    """Return what one commit of an index has; with `others`, of a merchant that has moved, what all have together."""
    shares = shares_of(question.merchant_id, seen, others)
    merchant = trading(question.merchant_id, shares, others)
    clauses = [] if merchant is None else queries.parsed(question.text, merchant.language, merchant.synonyms)
    if merchant is None or (not clauses and question.text.strip()):  # signs only: nothing has them
        return _nothing(seen)
    language = merchant.language
    clauses, corrections = _resolved(shares, question.merchant_id, clauses, language)
    asked, total, is_relaxed = _asked(shares, question, clauses, language)
    words = frozenset(queries.words_of(clauses))
    is_scored = question.sort is Sort.RELEVANCE
    return Answer(
        hits=[
            hit
            for share, score, address in _page(asked, question)
            if (hit := _hit(share.seen.searcher, address, score if is_scored else None, words, language)) is not None
        ],
        total=total,
        facets=_facets(asked, list(dict.fromkeys(question.facets))),
        corrections=corrections,
        is_relaxed=is_relaxed,
        pod=seen.pod,
        applied_cut=seen.applied_cut,
        data_at=seen.data_at,
    )


def suggestions(
    seen: Seen, merchant_id: str, typed: str, *, limit: int = SUGGESTIONS_MAX, others: Sequence[Seen] = ()
) -> list[str]:
    """Return completions of the last word that stand in a product beside the words before it."""
    shares = shares_of(merchant_id, seen, others)
    merchant = trading(merchant_id, shares, others)
    if merchant is None or len(typed) > queries.QUERY_LONGEST:
        return []
    words = plain_words(typed)[: queries.WORDS_MAX]
    if not words or not typed[-1].isalnum():
        return []
    *before, last = words
    beside = [(Occur.Must, queries.any_field(word, merchant.language)) for word in before]
    found = Counter[str]()
    for share in shares:
        chosen = Query.boolean_query([(Occur.Must, share.mine), *beside])
        words_there = share.seen.searcher.terms_with_prefix(
            schema.WORDS, last, filter_query=chosen, limit=min(limit, SUGGESTIONS_MAX)
        )
        found.update(dict(words_there))
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    return [" ".join([*before, word]) for word, _ in ordered[: min(limit, SUGGESTIONS_MAX)]]


def _resolved(
    shares: Sequence[Share], merchant_id: str, clauses: Sequence[Clause], language: str
) -> tuple[list[Clause], dict[str, str]]:
    """Return the clauses with words that the merchant's products have, and word typed -> words looked for instead."""
    corrections = dict[str, str]()

    def is_known(word: str) -> bool:
        anywhere = queries.any_field(word, language)
        return any(_has_any(share.seen.searcher, queries.both(share.mine, anywhere)) for share in shares)

    def resolve(word: str) -> tuple[str, ...]:
        if is_known(word):
            return (word,)
        words = vocabulary_of(merchant_id, shares)
        meant = parts(word, words) or ((found,) if (found := correction(word, words)) is not None else None)
        if meant is not None:
            corrections[word] = " ".join(meant)
        return meant or (word,)

    return queries.joined(queries.resolved(clauses, resolve), is_known), corrections


Asked = Sequence[tuple[Share, Query]]
"""What is asked of each share."""


def _asked(
    shares: Sequence[Share], question: Question, clauses: Sequence[Clause], language: str
) -> tuple[Asked, int, bool]:
    """Return what is asked, the number of hits, and whether some words may be missing in them."""

    def of(wanted: Query | None) -> tuple[Asked, int]:
        asked = [(share, queries.filtered(wanted, share.mine, question.filters)) for share in shares]
        return asked, sum(_count(share.seen.searcher, query) for share, query in asked)

    if not clauses:
        return *of(None), False
    exact, total = of(queries.all_of(clauses, language))
    if len(clauses) == 1 or total >= FEW:
        return exact, total, False
    return *of(queries.most_of(clauses, language)), True


def _has_any(searcher: Searcher, query: Query) -> bool:
    return bool(searcher.search(query, limit=1, count=False).hits)


def _count(searcher: Searcher, query: Query) -> int:
    found: Any = searcher.search(query, limit=1)  # the engine's stubs lack the attribute
    return int(found.count)


def _page(asked: Asked, question: Question) -> list[tuple[Share, float, DocAddress]]:
    """Return the hits of a page with what orders them; of several shares the best of all."""
    ordered = _order(question.sort)
    if len(asked) == 1:
        ((share, query),) = asked
        found = share.seen.searcher.search(query, limit=question.limit, offset=question.offset, **ordered)
        return [(share, score, address) for score, address in found.hits]
    end = question.offset + question.limit
    every = [
        (share, value, address)
        for share, query in asked
        for value, address in share.seen.searcher.search(query, limit=end, **ordered).hits
    ]
    sign = 1 if question.sort is Sort.PRICE_ASCENDING else -1
    # Within a share the engine's order stays; what has no price comes last, as there.
    every.sort(key=lambda hit: (hit[1] is None, 0 if hit[1] is None else sign * hit[1]))
    return every[question.offset : end]


def _order(sort: Sort) -> dict[str, Any]:
    if sort is Sort.RELEVANCE:
        return {}
    return {
        "order_by_field": schema.PRICE_FROM,
        "order": Order.Asc if sort is Sort.PRICE_ASCENDING else Order.Desc,
    }


def _facets(asked: Asked, names: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    if not names:
        return {}
    paths = {name: schema.BRAND if name == BRAND_FACET else queries.attribute_path(name) for name in names}
    # Of several shares each counts all its values: one that is rare in each may be frequent in all.
    size = FACET_VALUES_MAX if len(asked) == 1 else FACET_VALUES_READ
    wanted = {name: {"terms": {"field": path, "size": size}} for name, path in paths.items()}
    counts = {name: Counter[str]() for name in names}
    for share, query in asked:
        counted = share.seen.searcher.aggregate(query, wanted)
        for name in names:
            counts[name].update({one["key"]: one["doc_count"] for one in counted[name]["buckets"]})
    return {
        name: [(value.removeprefix(_mark(name)), hits) for value, hits in counts[name].most_common(FACET_VALUES_MAX)]
        for name in names
    }


def _mark(facet: str) -> str:
    return "" if facet == BRAND_FACET else schema.VALUE_MARK


def _hit(
    searcher: Searcher, address: DocAddress, score: float | None, words: frozenset[str], language: str
) -> Hit | None:
    try:
        product = msgspec.json.decode(row_of(searcher.doc(address)), type=ListedProduct)
    except msgspec.DecodeError:  # the comparison finds it; until then one damaged document costs one hit, not the page
        return None
    return Hit(
        product=product,
        score=score,
        title=highlighted(product.title, words, language),
        body=fragment(product.body, words, language),
    )


def _nothing(seen: Seen) -> Answer:
    return Answer(
        hits=[],
        total=0,
        facets={},
        corrections={},
        is_relaxed=False,
        pod=seen.pod,
        applied_cut=seen.applied_cut,
        data_at=seen.data_at,
    )
