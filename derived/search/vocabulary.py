"""The words that a merchant's products have, and the one that a mistyped word most likely means.

The engine's own fuzzy queries give every match the same score and no highlight (tantivy#2358). So a word that no
product has is replaced before the query is made: by the word with the fewest edits, of those the most frequent one. An
edit inserts, deletes or changes a letter, or exchanges two neighbours (optimal string alignment).

Only the merchant's own words count, so that nobody learns another's from a correction.
Belongs here: words and corrections. Does not belong here: which words are unknown (`queries.py`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from rapidfuzz import process
from rapidfuzz.distance import OSA
from tantivy import Query, Searcher

from derived.search import schema

CORRECTED_FROM_LETTERS = 3
"""Shorter words are not corrected: every other short word would be near."""
TWO_EDITS_FROM_LETTERS = 8
PART_FROM_LETTERS = 3
"""An unknown word is read as two words of at least so many letters each."""
KEPT_SECONDS = 10.0
"""A merchant's words are read again at most this often: a newer word is found all the same, it only corrects none."""
MERCHANTS_MAX = 64
"""So many merchants' words are kept in memory, those asked for last."""

Words = dict[str, int]
"""Word -> number of products that have it."""


class Vocabularies:
    """The words of the merchants that were asked for last; one per index and process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._kept: OrderedDict[str, tuple[float, Words]] = OrderedDict()

    def of(self, searcher: Searcher, merchant_id: str, merchant: Query) -> Words:
        """Return the words of a merchant's products; `merchant` is the query that selects them."""
        kept = self._kept.pop(merchant_id, None)
        if kept is None or self._monotonic() - kept[0] > KEPT_SECONDS:
            words = dict(searcher.terms_with_prefix(schema.WORDS, "", filter_query=merchant))
            kept = (self._monotonic(), words)
        self._kept[merchant_id] = kept
        while len(self._kept) > MERCHANTS_MAX:
            self._kept.popitem(last=False)
        return kept[1]


def correction(word: str, words: Words) -> str | None:
    """Return the most frequent of the words with the fewest edits from `word`; None if all are too far."""
    if len(word) < CORRECTED_FROM_LETTERS:
        return None
    edits_max = 2 if len(word) >= TWO_EDITS_FROM_LETTERS else 1
    near = process.extract(word, words.keys(), scorer=OSA.distance, score_cutoff=edits_max, limit=None)
    if not near:
        return None
    # The word itself decides between equals, so that the answer does not depend on the order of the dictionary.
    return min(near, key=lambda found: (found[1], -words[found[0]], found[0]))[0]


def parts(word: str, words: Words) -> tuple[str, str] | None:
    """Return the two words that `word` is written of, the most frequent pair; None if it is not of two words."""
    cuts = range(PART_FROM_LETTERS, len(word) - PART_FROM_LETTERS + 1)
    pairs = [(word[:at], word[at:]) for at in cuts if word[:at] in words and word[at:] in words]
    return max(pairs, key=lambda pair: (min(words[pair[0]], words[pair[1]]), pair), default=None)
