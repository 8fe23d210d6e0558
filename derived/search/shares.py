"""Where a merchant's products stand: in the index of the pod where it lives, and, if it has moved, in those before it.

An index holds what came by its pod. A merchant that has moved left its products behind in the index of its earlier pod,
and the new pod's index has those that changed since. So a search for it asks all indexes, and of every product counts
the document of the latest residence: the highest epoch of the directory. The copies stay what they are, and are
compared and repaired each by itself; nothing must be carried over at the moment of a move.

Belongs here: which documents of which commits count. Does not belong here: asking them (`asking.py`), where a merchant
lives (`oltp/directory.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from tantivy import Query, Searcher

from contracts.ids import aggregate_key
from derived.search import queries, schema
from derived.search.documents import MERCHANTS, PRODUCTS, ListedMerchant
from derived.search.positions import MANY, row_of
from derived.search.queries import Synonyms
from derived.search.readers import Seen
from derived.search.text import language_of
from derived.search.vocabulary import MERCHANTS_MAX, Words

EPOCHS_MAX = 1_000
"""So many residences of a merchant are told apart."""
KEPT = 16
"""Merchants that have moved, whose shares are remembered as long as no index has a newer commit."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one commit of an index has of a merchant's products on offer."""

    seen: Seen
    mine: Query
    """The filter for them; every search has it, also one without words."""


@dataclass(frozen=True, kw_only=True)
class Trading:
    """What a search must know of a merchant that trades."""

    language: str
    synonyms: Synonyms


def shares_of(merchant_id: str, home: Seen, others: Sequence[Seen] = ()) -> tuple[Share, ...]:
    """Return the shares of a merchant, that of its home first. `others`: if it has moved, every other pod's commit."""
    if not others:
        return (Share(seen=home, mine=queries.of_merchant(merchant_id)),)
    return _shares(merchant_id, (home, *others))


@lru_cache(maxsize=KEPT)
def _shares(merchant_id: str, commits: tuple[Seen, ...]) -> tuple[Share, ...]:
    epochs = [dict(_keys(seen.searcher, merchant_id)) for seen in commits]
    latest: dict[str, int] = {}
    for held in epochs:
        for key, epoch in held.items():
            latest[key] = max(epoch, latest.get(key, epoch))
    found, counted = list[Share](), set[str]()
    for seen, held in zip(commits, epochs, strict=True):
        older = sorted(key for key, epoch in held.items() if epoch < latest[key] or key in counted)
        counted |= held.keys() - set(older)
        if held or seen is commits[0]:
            found.append(Share(seen=seen, mine=queries.of_merchant(merchant_id, except_keys=older)))
    return tuple(found)


def _keys(searcher: Searcher, merchant_id: str) -> Iterator[tuple[str, int]]:
    """Yield key and epoch of the directory of a merchant's products, on offer or not."""
    every = queries.products_of(merchant_id)
    counted = searcher.aggregate(every, {"epochs": {"terms": {"field": schema.DIRECTORY_EPOCH, "size": EPOCHS_MAX}}})
    prefix = aggregate_key(merchant_id, PRODUCTS.aggregate_type, "")
    for epoch in sorted(int(bucket["key"]) for bucket in counted["epochs"]["buckets"]):
        chosen = queries.both(every, queries.exactly(schema.DIRECTORY_EPOCH, epoch))
        found = searcher.terms_with_prefix(schema.KEY, prefix, filter_query=chosen, limit=MANY)
        yield from ((key, epoch) for key, _ in found)


def trading(merchant_id: str, shares: Sequence[Share], others: Sequence[Seen] = ()) -> Trading | None:
    """Return what the newest document of a merchant says; None if it does not trade, or no index knows it."""
    key = aggregate_key(merchant_id, MERCHANTS.aggregate_type, merchant_id)
    commits = dict.fromkeys([*(share.seen for share in shares), *others])
    rows = (row_at(seen.searcher, key) for seen in commits)
    known = [found for row in rows if row is not None and (found := _read(row)) is not None]
    if not known:
        return None
    newest, synonyms = max(known, key=lambda one: (one[0].directory_epoch, one[0].version))
    return Trading(language=language_of(newest.jurisdiction), synonyms=synonyms) if newest.is_active else None


@lru_cache(maxsize=MERCHANTS_MAX)
def _read(row: bytes) -> tuple[ListedMerchant, Synonyms] | None:
    """Return a merchant and its synonyms; the same row is read once, because synonyms are many and change rarely.

    None: the document is damaged; the comparison finds it.
    """
    try:
        merchant = msgspec.json.decode(row, type=ListedMerchant)
    except msgspec.DecodeError:
        return None
    return merchant, queries.understood((synonym.words, synonym.means) for synonym in merchant.synonyms)


def vocabulary_of(merchant_id: str, shares: Sequence[Share]) -> Words:
    """Return the words of a merchant's products, with the number of products that have them."""
    first, *more = (share.seen.vocabularies.of(share.seen.searcher, merchant_id, share.mine) for share in shares)
    if not more:
        return first
    words = dict(first)
    for further in more:
        for word, count in further.items():
            words[word] = words.get(word, 0) + count
    return words


def row_at(searcher: Searcher, key: str) -> bytes | None:
    """Return the stored row of an aggregate key."""
    query = Query.term_query(schema.schema(), schema.KEY, key, index_option="basic")
    hits = searcher.search(query, limit=1, count=False).hits
    return row_of(searcher.doc(hits[0][1])) if hits else None
