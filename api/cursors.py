"""Pages of a list: a cursor holds the last key of a page, so a page begins after it whatever was inserted meanwhile.

Belongs here: cursors, page sizes, and the form of a page. Does not belong here: the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from api.signing import Signer
from contracts.errors import InputError

PAGE_SIZE = 50
PAGE_SIZE_MAX = 200

Item = TypeVar("Item")


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of a list."""

    after: str | None = None
    """The `next` of the page before; leave it out for the first page."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """A page of a list."""

    items: list[Item]
    next: str | None
    """The cursor of the page after this one; null: this is the last page."""


def position_after(signer: Signer, scope: Sequence[str], cursor: str | None) -> list[str] | None:
    """Return the keys in a cursor, None for the first page; InputError for a cursor of another list or merchant."""
    if cursor is None:
        return None
    found: list[str] = msgspec.json.decode(signer.read(cursor))
    if found[: len(scope)] != list(scope):
        raise InputError("This cursor belongs to another list; begin with the first page.")
    return found[len(scope) :]


def page_of(
    signer: Signer, scope: Sequence[str], found: Sequence[Item], limit: int, key: Callable[[Item], Sequence[Any]]
) -> Page[Item]:
    """Return a page of at most `limit` of `found`, which was read with one more than that."""
    items = list(found[:limit])
    if len(found) <= limit:
        return Page(items=items, next=None)
    keys = [*scope, *(str(part) for part in key(items[-1]))]
    return Page(items=items, next=signer.sign(msgspec.json.encode(keys)))
