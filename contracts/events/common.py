"""What the payloads of all aggregates share: the frozen base classes of their values, and the format of a payload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, ClassVar

import msgspec

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Fields of a stored state -> the fields of the next schema version. It is pure, and works for every stored state."""


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of an aggregate's state, e.g. one order line."""

    # Of what stands in a list: the fields that name it in its aggregate.
    KEY: ClassVar[tuple[str, ...]] = ()


class AggregateState(Value, frozen=True, kw_only=True):
    """An aggregate's full state after a change; every subclass names its aggregate type.

    `version` starts at 1 and grows by one with every event; the highest version of a key is its present state.
    `SCHEMA_VERSION` is the version of the fields: the number of upcasters plus one.
    """

    AGGREGATE_TYPE: ClassVar[str]
    ID_FIELD: ClassVar[str]
    """The field of its id; unless declared, `<aggregate type>_id`."""
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ()
    """The fields that say when the fact occurred, the first one its business day; the last that has a value counts."""
    SCHEMA_VERSION: ClassVar[int] = 1
    UPCASTERS: ClassVar[tuple[Upcaster, ...]] = ()
    """The first one converts a state of schema version 1 to version 2, and so on."""
    RETIRED: ClassVar[Mapping[int, date]] = {}
    """Schema version -> last day on which events of it may be written; readers still read them afterwards."""

    merchant_id: str
    """The merchant, a readable name."""
    version: int
    """Version of the aggregate, from 1 without gaps."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Set SCHEMA_VERSION from the number of upcasters, and ID_FIELD if the class does not declare it."""
        super().__init_subclass__(**options)
        if "ID_FIELD" not in vars(cls):
            cls.ID_FIELD = f"{cls.AGGREGATE_TYPE}_id"
        cls.SCHEMA_VERSION = len(cls.UPCASTERS) + 1

    @property
    def aggregate_id(self) -> str:
        """Return the aggregate's id; it is unique within the aggregate type of one merchant."""
        return str(getattr(self, self.ID_FIELD))


def changed_fields(before: AggregateState | None, after: AggregateState) -> list[str]:
    """Return the names of the top-level fields that differ, without `version`; for a new aggregate all names."""
    names = [name for name in after.__struct_fields__ if name != "version"]
    if before is None:
        return names
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def encode_payload(before: AggregateState | None, after: AggregateState, cause: str = "") -> str:
    """Return the event payload as JSON text: the state after the change, the changed fields, and `cause` if given."""
    payload: dict[str, Any] = {"state": after, "changed": changed_fields(before, after)}
    if cause:
        payload["cause"] = cause
    return msgspec.json.encode(payload).decode()
