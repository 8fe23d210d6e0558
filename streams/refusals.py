"""Finds the items that a store refuses because of their content, by bisection.

Belongs here: the search, for any store. Does not belong here: which errors concern an item's content (each store knows
its own), and what happens to the items (`streams/parking.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def refused(items: Sequence[Item], refusal: Callable[[Sequence[Item]], str | None]) -> list[tuple[Item, str]]:
    """Return the items that cannot be stored, each with the store's reason, in their order.

    `refusal` tries to write items: it stores all of them and returns None, or stores none and returns the reason.
    Stored items stay while the next ones are tried, so when two items conflict only with each other, the later one is
    refused. One bad item among n costs about 2 log2(n) calls.
    """
    if not items:
        return []
    reason = refusal(items)
    if reason is None:
        return []
    if len(items) == 1:
        return [(items[0], reason)]
    middle = len(items) // 2
    return refused(items[:middle], refusal) + refused(items[middle:], refusal)
