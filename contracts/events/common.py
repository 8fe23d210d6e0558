"""What the payloads of all aggregates share: the frozen base of their values, and the envelope's payload form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, ClassVar

import msgspec

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""The fields of a stored state -> the same as the next version names them: pure, and total over all that is stored."""


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of an aggregate's state, e.g. one order line."""

    # Of what stands in a list: the fields that name it in its aggregate.
    KEY: ClassVar[tuple[str, ...]] = ()


class AggregateState(Value, frozen=True, kw_only=True):
    """An aggregate's full state after a change; every subclass names its type and where its id stands.

    `version` starts at 1 and grows by one with every event; the highest version of a key is its present state.
    `SCHEMA_VERSION` is that of the fields: one more than there are upcasters.
    """

    AGGREGATE_TYPE: ClassVar[str]
    ID_FIELD: ClassVar[str]
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ()
    """The fields that say when the fact occurred, the first one its business day; the last that has a value counts."""
    SCHEMA_VERSION: ClassVar[int] = 1
    UPCASTERS: ClassVar[tuple[Upcaster, ...]] = ()
    """The first brings what was stored under version 1 to version 2, and so on."""
    RETIRED: ClassVar[Mapping[int, date]] = {}
    """Version -> the last day on which events of it may be written; those of all days stay readable."""

    merchant_id: str
    """The merchant, a readable name."""
    version: int
    """Version of the aggregate, from 1 without gaps."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Number the schema by the upcasters that lead to it."""
        super().__init_subclass__(**options)
        cls.SCHEMA_VERSION = len(cls.UPCASTERS) + 1

    @property
    def aggregate_id(self) -> str:
        """Return the id by which the aggregate is known in its type."""
        return str(getattr(self, self.ID_FIELD))


def changed_fields(before: AggregateState | None, after: AggregateState) -> list[str]:
    """Return the names of the top-level fields that differ, `version` apart; all of them for a new aggregate."""
    names = [name for name in after.__struct_fields__ if name != "version"]
    if before is None:
        return names
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def encode_payload(before: AggregateState | None, after: AggregateState, cause: str = "") -> str:
    """Return the event payload as JSON text: the full state after the change, which fields changed, and any `cause`."""
    payload: dict[str, Any] = {"state": after, "changed": changed_fields(before, after)}
    if cause:
        payload["cause"] = cause
    return msgspec.json.encode(payload).decode()
