"""Prepares types that several threads decode in msgspec, before there are threads.

Belongs here: `make_known`. Does not belong here: the types, which are made known where they are defined or first used.

msgspec inspects a struct type when it is first decoded. It stores the result in the type before the result is complete.
A second thread that decodes the type at that moment reads the incomplete result, and the process ends with a
segmentation fault. So a module whose types are decoded in several threads calls `make_known` when it is imported.
"""

from __future__ import annotations

from typing import Any

import msgspec

KNOWN: set[Any] = set()
"""The types that `make_known` has prepared."""


def make_known(*types: Any) -> None:
    """Let msgspec inspect the types, and the types of their fields, in this thread."""
    for kind in types:
        msgspec.json.Decoder(kind)
        KNOWN.add(kind)
