"""Which of many items a store refuses for what is in them: halves are tried until an item is alone.

Belongs here: the search, for any store. Does not belong here: which errors are about an item's content (each store
knows its own), and what becomes of the items (`streams/parking.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def refused(items: Sequence[Item], refusal: Callable[[Sequence[Item]], str | None]) -> list[tuple[Item, str]]:
    """Return the items that cannot be stored, each with the store's reason, in their order.

    `refusal` tries to write items. It keeps them and returns None, or keeps nothing of them and returns why. Items
    that are kept stay while the next ones are tried: of two that only conflict with each other, the later one is
    refused. One bad item among n costs about 2 log2(n) tries.
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
