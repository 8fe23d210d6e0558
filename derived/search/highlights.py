"""Which parts of a text made it a hit: the places of its matching words.

The engine makes snippets of a field's own analyzer only; a text is stored once here and indexed in several languages.
Belongs here: finding the places, pure. Does not belong here: marking them up, which is the page's matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from derived.search.text import placed_words, plain_words, stem

FRAGMENT_LONGEST = 200
"""Characters of a description that are shown."""
BEFORE = 60
"""Characters before the first match in it."""


@dataclass(frozen=True, kw_only=True)
class Highlighted:
    """A text, or a fragment of one, and the places of what matched."""

    text: str
    ranges: tuple[tuple[int, int], ...]
    """(begin, end) in `text`, in characters, in their order."""


def highlighted(text: str, words: Collection[str], language: str) -> Highlighted:
    """Return the text with the places of all words that a query with these words finds in a language."""
    stems = {stem(word, language) for word in words}
    ranges = [
        (word.begin, word.end)
        for word in placed_words(text)
        if any(plain in words or stem(plain, language) in stems for plain in plain_words(word.text))
    ]
    return Highlighted(text=text, ranges=tuple(ranges))


def fragment(text: str, words: Collection[str], language: str) -> Highlighted:
    """Return the part of a long text around its first match, cut between words."""
    whole = highlighted(text, words, language)
    if len(text) <= FRAGMENT_LONGEST:
        return whole
    first = whole.ranges[0][0] if whole.ranges else 0
    begin = max(0, first - BEFORE)
    begin = text.find(" ", begin, first) + 1 if begin and text.find(" ", begin, first) >= 0 else min(begin, first)
    end = min(len(text), begin + FRAGMENT_LONGEST)
    if end < len(text) and (space := text.rfind(" ", begin, end)) > first:
        end = space
    inside = tuple((left - begin, right - begin) for left, right in whole.ranges if begin <= left and right <= end)
    return Highlighted(text=text[begin:end], ranges=inside)
