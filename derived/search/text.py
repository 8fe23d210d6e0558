"""How text becomes terms: one analyzer per language, and one that leaves words as they are written.

Every text is indexed once in each language. So a merchant may change its language, and its documents need not be
written again: the language chooses the fields of a query, not those of a document.

Belongs here: languages and analyzers. Does not belong here: which fields they fill (`schema.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

WORD_LONGEST = 40
"""Longer words (in bytes) are not indexed: they are numbers or damage, and no shopper types them."""

LANGUAGES: Mapping[str, str] = {"en": "english", "de": "german", "fr": "french"}
"""Language -> name of its stemmer and of its list of stop words."""
DEFAULT_LANGUAGE = "en"
PLAIN = "plain"
"""The analyzer that does not stem."""

LANGUAGE_OF_COUNTRY: Mapping[str, str] = {"DE": "de", "AT": "de", "FR": "fr"}
"""First part of a jurisdiction -> language; others are searched in the default language."""


class Word(NamedTuple):
    """A word of a text, with its place in it."""

    text: str
    begin: int
    end: int


def language_of(jurisdiction: str) -> str:
    """Return the language in which a merchant of this jurisdiction is searched."""
    return LANGUAGE_OF_COUNTRY.get(jurisdiction.partition("-")[0].upper(), DEFAULT_LANGUAGE)


@cache
def analyzer(name: str) -> TextAnalyzer:
    """Return the analyzer of a language, or the plain one. Umlauts are folded before the stemmer sees them."""
    return _begun().build() if name == PLAIN else _begun().filter(Filter.stemmer(LANGUAGES[name])).build()


def plain_words(text: str) -> list[str]:
    """Return the words of a text as written, in lower case and without accents."""
    return analyzer(PLAIN).analyze(text)


def stem(word: str, language: str) -> str:
    """Return the term under which the fields of a language hold a plain word."""
    found = analyzer(language).analyze(word)
    return found[0] if found else word


def is_stop_word(word: str, language: str) -> bool:
    """Whether a word is so frequent in its language that a query can do without it."""
    return not _without_stop_words(language).analyze(word)


def placed_words(text: str) -> list[Word]:
    """Return the words of a text with their places, cut where the analyzers cut: at what is no letter and no digit."""
    words, begin = list[Word](), None
    for place, character in enumerate(text + " "):
        if character.isalnum():
            begin = place if begin is None else begin
        elif begin is not None:
            words.append(Word(text[begin:place], begin, place))
            begin = None
    return words


@cache
def _without_stop_words(language: str) -> TextAnalyzer:
    return _begun().filter(Filter.stopword(LANGUAGES[language])).build()


def _begun() -> TextAnalyzerBuilder:
    begun = TextAnalyzerBuilder(Tokenizer.simple()).filter(Filter.remove_long(WORD_LONGEST))
    return begun.filter(Filter.lowercase()).filter(Filter.ascii_fold())
