"""How we show a text that somebody else wrote: no character of it reaches a terminal as a command.

Belongs here: the escaping of invisible characters and terminal control characters, and the phrase of a number with its
noun. Does not belong here: what may be stored (`contracts/limits.py`), where texts are shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from contracts.limits import Characters

_KEPT = "\n\t"
"""Control characters that our own tables and messages use."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, e.g. ``1 key`` and ``1,200 keys``; also with a verb: ``1 key differs``.

    `one` is the singular, `many` the plural; by default the singular with an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def are(number: int) -> str:
    """Return ``is`` or ``are`` for a number, when the verb does not follow the noun: ``1 key of the log is``."""
    return "is" if number == 1 else "are"


def visible(text: str) -> str:
    """Return a text in which every invisible or control character is escaped (``\\x1b``, ``\\u202e``, ``\\n``).

    A text that was stored under older limits, or bypassed them, may hold line breaks, terminal commands and marks that
    change the text direction. Escaped, two different ids also look different.
    """
    if text.isascii() and text.isprintable():
        return text
    return Characters.PLAIN.refused.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escaped_in_json(line: str) -> str:
    """Return a line of a JSON document with these characters as JSON escapes (``\\u202e``); the value is the same."""
    if line.isascii() and line.isprintable():
        return line
    return Characters.PLAIN.refused.sub(lambda found: json.dumps(found[0])[1:-1], line)


def visible_lines(text: str) -> str:
    """Return `visible` of a text that we have laid out: it keeps line breaks and tabs, which are ours."""
    if text.isascii() and text.isprintable():
        return text
    return Characters.PLAIN.refused.sub(
        lambda found: found[0] if found[0] in _KEPT else found[0].encode("unicode_escape").decode(), text
    )


def one_line(text: object) -> str:
    """Return a text, as an error's, in one line: what was laid out in several is for a terminal."""
    return " ".join(str(text).split())


def cuts_text(cuts: Mapping[str, int]) -> str:
    """Return a vector of cuts, e.g. ``pod1:7,pod2:3``."""
    return ",".join(f"{pod}:{cut}" for pod, cut in sorted(cuts.items()))
