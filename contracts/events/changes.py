"""What differs between two states of an aggregate, field by field, and whether it concerns money.

When no event explains a change, a person decides on a change of money; code may write an event for a change of a
description. Belongs here: that distinction, and naming the fields. Does not belong here: who decides
(`repair/remedies.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from contracts.events.common import AggregateState

DESCRIPTIVE = frozenset(
    {
        "version",
        "customer_id",
        "order_number",
        "source",
        "sku",
        "title",
        "name",
        "code",
        "reason",
        "price_source",
        "price_reason",
        "failure_reason",
        "external_reference",
        "tracking_number",
        "expires_at",
        "registered_at",
        "is_active",
        "feature",
        "grantor",
        "level",
        "granted_at",
        "revoked_at",
        "effective_level",
        "effective_grant_id",
        "grant_id",
    }
)
"""Fields that only describe: they determine no amount, quantity, price, rate, currency, status, business day or owner.
Every field that is not listed counts as money. So a new field counts as money until it is added here.
"""

PARTS_ONLY_DESCRIBED = frozenset({"grants"})
"""Lists whose parts may be added or removed without a change of money."""


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """One field that differs. `before` is None when its part was added, `after` is None when its part was removed."""

    field: str
    """A path, e.g. ``total_minor`` or ``lines[2].amount_minor`` (parts count from 1, in the state's order)."""
    before: Any
    after: Any
    is_money: bool


def field_changes(before: AggregateState | None, after: AggregateState | None) -> tuple[FieldChange, ...]:
    """Return the differences of two states of one aggregate: first its own fields, then the fields of its parts.

    None means that there is no such state: then every field of the other state differs.
    """
    old, new = ({} if state is None else msgspec.to_builtins(state) for state in (before, after))
    return tuple(sorted(_changes(old, new), key=lambda change: "[" in change.field))


def state_digest(state: AggregateState) -> str:
    """Return a text that two states share only if they are equal in every field."""
    return hashlib.sha256(msgspec.json.encode(state, order="deterministic")).hexdigest()


def _changes(old: dict[str, Any], new: dict[str, Any], path: str = "") -> Iterator[FieldChange]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, list) or isinstance(after, list):
            yield from _part_changes(path + name, before or [], after or [], is_described=name in PARTS_ONLY_DESCRIBED)
        else:
            yield FieldChange(field=path + name, before=before, after=after, is_money=name not in DESCRIPTIVE)


def _part_changes(path: str, old: list[Any], new: list[Any], *, is_described: bool) -> Iterator[FieldChange]:
    for number in range(max(len(old), len(new))):
        before, after = (parts[number] if number < len(parts) else None for parts in (old, new))
        for change in _changes(before or {}, after or {}, f"{path}[{number + 1}]."):
            yield FieldChange(
                field=change.field,
                before=change.before,
                after=change.after,
                is_money=not is_described and (change.is_money or before is None or after is None),
            )
