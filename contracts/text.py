"""How a text that somebody else wrote is shown to people: nothing in it reaches a terminal as a command.

Belongs here: the one way in which characters that are invisible, or that a terminal obeys, are shown, and in which a
number stands before its noun. Does not belong here: what may be stored (`contracts/limits.py`), where texts are shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from contracts.limits import Characters

_KEPT = "\n\t"
"""What a table or a message may hold itself."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number before what it counts, e.g. ``1 key`` and ``1,200 keys``, also with a verb: ``1 key differs``.

    `one` is what one of them is called, `many` what several are; by default the same with an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def are(number: int) -> str:
    """Return the verb for so many where other words stand before it: ``1 key of the log is``."""
    return "is" if number == 1 else "are"


def visible(text: str) -> str:
    """Return a text with every character escaped (``\\x1b``, ``\\u202e``, ``\\n``) that is not plainly seen.

    What is stored under old limits, or came past them, may hold line breaks, terminal commands and marks that turn the
    direction of reading; shown like this two different ids also look different.
    """
    if text.isascii() and text.isprintable():
        return text
    return Characters.PLAIN.refused.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escaped_in_json(line: str) -> str:
    """Return a line of a JSON document with the same characters as JSON's own escapes (``\\u202e``): the same value."""
    if line.isascii() and line.isprintable():
        return line
    return Characters.PLAIN.refused.sub(lambda found: json.dumps(found[0])[1:-1], line)


def visible_lines(text: str) -> str:
    """Return `visible` of what is laid out already: its line breaks and tabs are ours, and stay."""
    if text.isascii() and text.isprintable():
        return text
    return Characters.PLAIN.refused.sub(
        lambda found: found[0] if found[0] in _KEPT else found[0].encode("unicode_escape").decode(), text
    )


def cuts_text(cuts: Mapping[str, int]) -> str:
    """Return a vector of cuts, e.g. ``pod1:7,pod2:3``."""
    return ",".join(f"{pod}:{cut}" for pod, cut in sorted(cuts.items()))
