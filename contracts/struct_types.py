"""Types that several threads decode, made known to msgspec before there are threads.

Belongs here: that. Does not belong here: the types, which are made known where they are defined or first used.

msgspec looks at a struct type when it is first decoded, and keeps what it finds in the type from the beginning,
unfinished. A second thread that decodes the type meanwhile reads what is not there yet, and the process ends with a
segmentation fault. So whoever may decode a type in several threads calls `make_known` when its module is imported.
"""

from __future__ import annotations

from typing import Any

import msgspec

KNOWN: set[Any] = set()
"""The types that msgspec has looked at."""


def make_known(*types: Any) -> None:
    """Let msgspec look at the types, with all that they are made of, in this thread."""
    for kind in types:
        msgspec.json.Decoder(kind)
        KNOWN.add(kind)
