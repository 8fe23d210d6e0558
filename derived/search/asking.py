"""The questions that pages ask of the index: a search with facets, and suggestions while a shopper types.

Every query is for one merchant. Belongs here: questions and answers as values. Does not belong here: building queries
(`queries.py`), which commit is read (`readers.py`), HTTP (`api/`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from tantivy import DocAddress, Occur, Order, Query, Searcher

from contracts.errors import InputError
from contracts.ids import aggregate_key
from derived.search import queries, schema
from derived.search.documents import MERCHANTS, ListedMerchant, ListedProduct
from derived.search.highlights import Highlighted, fragment, highlighted
from derived.search.positions import row_of
from derived.search.queries import Clause, Filters, Synonyms
from derived.search.readers import PodReader, Seen
from derived.search.text import language_of, plain_words
from derived.search.vocabulary import MERCHANTS_MAX, correction, parts

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

    def ask(self, pod: str, question: Question) -> Answer:
        """Return what the index of the merchant's pod has. Raises InputError, or PropagationError without an index."""
        return answer(self.seen(pod, cut_min=question.cut_min), question)


def answer(seen: Seen, question: Question) -> Answer:
    """Return what one commit of an index has."""
    trading = _trading(seen.searcher, question.merchant_id)
    if trading is None:
        return _nothing(seen)
    language, synonyms = trading
    clauses = queries.parsed(question.text, language, synonyms)
    if not clauses and question.text.strip():  # signs only: nothing has them
        return _nothing(seen)
    clauses, corrections = _resolved(seen, question.merchant_id, clauses, language)
    query, is_relaxed = _query(seen.searcher, question, clauses, language)
    found = seen.searcher.search(query, limit=question.limit, offset=question.offset, **_order(question.sort))
    words = frozenset(queries.words_of(clauses))
    is_scored = question.sort is Sort.RELEVANCE
    return Answer(
        hits=[
            _hit(seen.searcher, address, score if is_scored else None, words, language) for score, address in found.hits
        ],
        total=_count(seen.searcher, query),
        facets=_facets(seen.searcher, query, question.facets),
        corrections=corrections,
        is_relaxed=is_relaxed,
        pod=seen.pod,
        applied_cut=seen.applied_cut,
        data_at=seen.data_at,
    )


def suggestions(seen: Seen, merchant_id: str, typed: str, *, limit: int = SUGGESTIONS_MAX) -> list[str]:
    """Return completions of the last word that stand in a product beside the words before it."""
    trading = _trading(seen.searcher, merchant_id)
    if trading is None or len(typed) > queries.QUERY_LONGEST:
        return []
    words = plain_words(typed)[: queries.WORDS_MAX]
    if not words or not typed[-1].isalnum():
        return []
    *before, last = words
    language, _ = trading
    beside = [(Occur.Must, queries.any_field(word, language)) for word in before]
    chosen = Query.boolean_query([(Occur.Must, queries.of_merchant(merchant_id)), *beside])
    found = seen.searcher.terms_with_prefix(schema.WORDS, last, filter_query=chosen, limit=min(limit, SUGGESTIONS_MAX))
    return [" ".join([*before, word]) for word, _ in sorted(found, key=lambda one: (-one[1], one[0]))]


def row_at(searcher: Searcher, key: str) -> bytes | None:
    """Return the stored row of an aggregate key."""
    query = Query.term_query(schema.schema(), schema.KEY, key, index_option="basic")
    hits = searcher.search(query, limit=1, count=False).hits
    return row_of(searcher.doc(hits[0][1])) if hits else None


def _trading(searcher: Searcher, merchant_id: str) -> tuple[str, Synonyms] | None:
    """Return a merchant's language and synonyms; None if it does not trade, or the index does not know it."""
    row = row_at(searcher, aggregate_key(merchant_id, MERCHANTS.aggregate_type, merchant_id))
    merchant, synonyms = _read(row) if row is not None else (None, {})
    return (language_of(merchant.jurisdiction), synonyms) if merchant is not None and merchant.is_active else None


@lru_cache(maxsize=MERCHANTS_MAX)
def _read(row: bytes) -> tuple[ListedMerchant, Synonyms]:
    """Return a merchant and its synonyms; the same row is read once, because synonyms are many and change rarely."""
    merchant = msgspec.json.decode(row, type=ListedMerchant)
    return merchant, queries.understood((synonym.words, synonym.means) for synonym in merchant.synonyms)


def _resolved(
    seen: Seen, merchant_id: str, clauses: Sequence[Clause], language: str
) -> tuple[list[Clause], dict[str, str]]:
    """Return the clauses with words that the merchant's products have, and word typed -> words looked for instead."""
    merchant = queries.of_merchant(merchant_id)
    corrections = dict[str, str]()

    def is_known(word: str) -> bool:
        return _has_any(
            seen.searcher,
            Query.boolean_query([(Occur.Must, merchant), (Occur.Must, queries.any_field(word, language))]),
        )

    def resolve(word: str) -> tuple[str, ...]:
        if is_known(word):
            return (word,)
        words = seen.vocabularies.of(seen.searcher, merchant_id, merchant)
        meant = parts(word, words) or ((found,) if (found := correction(word, words)) is not None else None)
        if meant is not None:
            corrections[word] = " ".join(meant)
        return meant or (word,)

    return queries.joined(queries.resolved(clauses, resolve), is_known), corrections


def _query(searcher: Searcher, question: Question, clauses: Sequence[Clause], language: str) -> tuple[Query, bool]:
    if not clauses:
        return queries.filtered(None, question.merchant_id, question.filters), False
    exact = queries.filtered(queries.all_of(clauses, language), question.merchant_id, question.filters)
    if len(clauses) == 1 or _count(searcher, exact) >= FEW:
        return exact, False
    relaxed = queries.filtered(queries.most_of(clauses, language), question.merchant_id, question.filters)
    return relaxed, True


def _has_any(searcher: Searcher, query: Query) -> bool:
    return bool(searcher.search(query, limit=1, count=False).hits)


def _count(searcher: Searcher, query: Query) -> int:
    found: Any = searcher.search(query, limit=1)  # the engine's stubs lack the attribute
    return int(found.count)


def _order(sort: Sort) -> dict[str, Any]:
    if sort is Sort.RELEVANCE:
        return {}
    return {
        "order_by_field": schema.PRICE_FROM,
        "order": Order.Asc if sort is Sort.PRICE_ASCENDING else Order.Desc,
    }


def _facets(searcher: Searcher, query: Query, names: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    if not names:
        return {}
    paths = {name: schema.BRAND if name == BRAND_FACET else queries.attribute_path(name) for name in names}
    asked = {name: {"terms": {"field": path, "size": FACET_VALUES_MAX}} for name, path in paths.items()}
    counted = searcher.aggregate(query, asked)
    return {name: [(one["key"], one["doc_count"]) for one in counted[name]["buckets"]] for name in names}


def _hit(searcher: Searcher, address: DocAddress, score: float | None, words: frozenset[str], language: str) -> Hit:
    product = msgspec.json.decode(row_of(searcher.doc(address)), type=ListedProduct)
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
