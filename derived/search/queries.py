"""From what a shopper typed to the engine's query: words, phrases, synonyms, corrections, filters.

Every word must be found, in whichever field it scores best (disjunction max per word over weighted fields). If few
products have all words, those with at least half of them come behind, and the answer says so. Filters score nothing.

Belongs here: building queries. Does not belong here: asking them (`asking.py`), correcting a word (`vocabulary.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tantivy import FieldType, Occur, Query

from contracts.errors import InputError
from contracts.text import visible
from derived.search import schema
from derived.search.documents import PRODUCTS
from derived.search.text import is_stop_word, plain_words, stem

WORDS_MAX = 32
"""Further words of a query are left out."""
QUERY_LONGEST = 1_000
"""Characters of a query."""
SYNONYM_WEIGHT = 0.9
"""What a synonym counts of the words typed."""
COMPLETE_SCORE = 1_000.0
"""More than any words score together."""

_PARTS = re.compile(r'"([^"]*)"|([^"]+)')

Synonyms = Mapping[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Plain words -> the plain words that a merchant's shoppers mean by them as well."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a hit must be besides matching the words."""

    brands: Sequence[str] = ()
    """Any of these brands, written as in the product; none: every brand."""
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Attribute -> any of these values."""
    price_micro_min: int | None = None
    """An offered variant costs at least this, in micro-units of the merchant's currency."""
    price_micro_max: int | None = None


@dataclass(frozen=True, kw_only=True)
class Clause:
    """Words that are looked for together: one word, or a phrase in quotes."""

    words: tuple[str, ...]
    is_phrase: bool = False
    also: tuple[tuple[str, ...], ...] = ()
    """Synonyms: each the words that all must be there instead."""


def parsed(text: str, language: str, synonyms: Synonyms) -> list[Clause]:
    """Return the clauses of a query. Stop words are left out, unless there is nothing else."""
    if len(text) > QUERY_LONGEST:
        raise InputError(f"A search has at most {QUERY_LONGEST:,} characters; this one has {len(text):,}.")
    clauses = list[Clause]()
    for quoted, free in _PARTS.findall(text.replace("“", '"').replace("”", '"').replace("„", '"')):
        if words := tuple(plain_words(quoted)):
            clauses.append(Clause(words=words, is_phrase=len(words) > 1))
        clauses += _with_synonyms(free, synonyms)
    needed = [one for one in clauses if one.is_phrase or not all(is_stop_word(word, language) for word in one.words)]
    return (needed or clauses)[:WORDS_MAX]


def understood(pairs: Iterable[tuple[str, str]]) -> Synonyms:
    """Return synonyms by the words that the index has; pairs that differ in case or accents only are one."""
    found: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for words, means in pairs:
        said, also = tuple(plain_words(words)), tuple(plain_words(means))
        if said and also and said != also:
            found.setdefault(said, {})[also] = None
    return {said: tuple(also) for said, also in found.items()}


def _with_synonyms(text: str, known: Synonyms) -> list[Clause]:
    """Return a clause for each word; what is written without a space (t-light, an SKU) stays together."""
    groups = [words for token in text.split() if (words := tuple(plain_words(token)))]
    clauses, place = list[Clause](), 0
    longest = max(map(len, known), default=1)
    while place < len(groups):
        taken = (groups[place : place + count] for count in range(longest, 0, -1))
        said = ((sum(some, ()), len(some)) for some in taken)
        found, count = next((one for one in said if one[0] in known), (groups[place], 1))
        clauses.append(Clause(words=found, also=tuple(known.get(found, ()))))
        place += count
    return clauses


def resolved(clauses: Sequence[Clause], resolve: Callable[[str], tuple[str, ...]]) -> list[Clause]:
    """Return the clauses with every word as `resolve` says: the words that are looked for instead, mostly itself.

    What has synonyms is known to the merchant and stays; a phrase takes one word for a word.
    """
    return [
        one
        if one.also
        else Clause(words=tuple(found for word in one.words for found in resolve(word)), is_phrase=one.is_phrase)
        for one in clauses
    ]


def joined(clauses: Sequence[Clause], is_known: Callable[[str], bool]) -> list[Clause]:
    """Return the clauses with two neighbours as one where a product has them joined: door mat also means doormat."""
    made = list[Clause]()
    for one in clauses:
        before = made[-1] if made else None
        if before is not None and _is_plain(before) and _is_plain(one) and is_known(before.words[0] + one.words[0]):
            together = before.words[0] + one.words[0]
            made[-1] = Clause(words=(*before.words, *one.words), also=((together,),))
        else:
            made.append(one)
    return made


def _is_plain(clause: Clause) -> bool:
    return len(clause.words) == 1 and not clause.also


def all_of(clauses: Sequence[Clause], language: str) -> Query:
    """Return the query for what has every clause."""
    return Query.boolean_query([(Occur.Must, _clause(one, language)) for one in clauses])


def most_of(clauses: Sequence[Clause], language: str) -> Query:
    """Return the query for what has at least half of the clauses; what has all of them comes first."""
    wanted = [(Occur.Should, _clause(one, language)) for one in clauses]
    most = Query.boolean_query(wanted, minimum_number_should_match=(len(clauses) + 1) // 2)
    complete = Query.const_score_query(all_of(clauses, language), COMPLETE_SCORE)
    return Query.boolean_query([(Occur.Must, most), (Occur.Should, complete)])


def words_of(clauses: Sequence[Clause]) -> list[str]:
    """Return all words that a query looks for, synonyms included."""
    return [word for one in clauses for words in (one.words, *one.also) for word in words]


def products_of(merchant_id: str) -> Query:
    """Return the filter for all products of a merchant."""
    return both(exactly(schema.MERCHANT, merchant_id), exactly(schema.KIND, PRODUCTS.aggregate_type))


def of_merchant(merchant_id: str, *, except_keys: Sequence[str] = ()) -> Query:
    """Return the filter for a merchant's products that are offered, without those under the keys given."""
    offered = both(products_of(merchant_id), exactly(schema.IS_OFFERED, True))
    if not except_keys:
        return offered
    others = Query.term_set_query(schema.schema(), schema.KEY, list(except_keys))
    return Query.boolean_query([(Occur.Must, offered), (Occur.MustNot, others)])


def both(one: Query, other: Query) -> Query:
    """Return the query for what matches two queries."""
    return Query.boolean_query([(Occur.Must, one), (Occur.Must, other)])


def filtered(wanted: Query | None, mine: Query, filters: Filters) -> Query:
    """Return the query for those of a merchant's products that match `wanted` (None: all of them) and the filters."""
    parts = [mine]
    if filters.brands:
        parts.append(Query.term_set_query(schema.schema(), schema.BRAND, list(filters.brands)))
    for name, values in filters.attributes.items():
        if not values:
            raise InputError(f"The filter {visible(name)!r} names no value.")
        path = attribute_path(name)
        parts.append(_any([Query.term_query(schema.schema(), path, schema.VALUE_MARK + value) for value in values]))
    if filters.price_micro_min is not None or filters.price_micro_max is not None:
        bounds = (filters.price_micro_min, filters.price_micro_max)
        parts.append(Query.range_query(schema.schema(), schema.PRICES, FieldType.Integer, *bounds))
    # A filter's own score (1.0 of a range) would change the order of the hits.
    silent = [(Occur.Must, Query.const_score_query(part, 0.0)) for part in parts]
    return Query.boolean_query([*silent, *([(Occur.Must, wanted)] if wanted is not None else [])])


def attribute_path(name: str) -> str:
    """Return the engine's path of an attribute; a dot in its name does not separate."""
    if not name or not name.isprintable() or "\\" in name:
        raise InputError(f"{visible(name)!r} is no name of an attribute.")
    return f"{schema.ATTRIBUTES}.{name.replace('.', chr(92) + '.')}"


def any_field(word: str, language: str) -> Query:
    """Return the query for a word in whichever field it scores best."""
    stemmed = stem(word, language)
    fields = [(schema.text_field(name, language), stemmed, weight) for name, weight in schema.WEIGHTS]
    fields.append((schema.BRAND_WORDS, word, schema.BRAND_WEIGHT))
    return Query.disjunction_max_query(
        [
            Query.boost_query(Query.term_query(schema.schema(), name, term, index_option="freq"), weight)
            for name, term, weight in fields
        ]
    )


def _clause(clause: Clause, language: str) -> Query:
    said = _phrase(clause.words, language) if clause.is_phrase else _together(clause.words, language)
    if not clause.also:
        return said
    also = [Query.boost_query(_together(words, language), SYNONYM_WEIGHT) for words in clause.also]
    return Query.disjunction_max_query([said, *also])


def _together(words: Sequence[str], language: str) -> Query:
    if len(words) == 1:
        return any_field(words[0], language)
    return Query.boolean_query([(Occur.Must, any_field(word, language)) for word in words])


def _phrase(words: Sequence[str], language: str) -> Query:
    stems: list[str | tuple[int, str]] = [stem(word, language) for word in words]
    return Query.disjunction_max_query(
        [
            Query.boost_query(Query.phrase_query(schema.schema(), schema.text_field(name, language), stems), weight)
            for name, weight in schema.WEIGHTS
        ]
    )


def exactly(name: str, value: str | bool | int) -> Query:
    """Return the query for what has a value in a field that is not cut into words."""
    return Query.term_query(schema.schema(), name, value, index_option="basic")


def _any(queries: Sequence[Query]) -> Query:
    return Query.boolean_query([(Occur.Should, one) for one in queries])
