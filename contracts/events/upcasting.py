"""Reads a stored payload of any schema version as the newest version, by a chain of functions (upcasters).

Each upcaster converts one version to the next. Stored events are never rewritten, so readers convert what they read to
the newest version. Python and SQL use the same functions; DuckDB calls them only for events of older versions.

Belongs here: applying upcasters, the SQL for it, and registering it. Does not belong here: the upcasters, which stand
in the module of their aggregate (`AggregateState.UPCASTERS`), and the rules for them (`compatibility.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from contracts.events import STATE_TYPES
from contracts.events.common import AggregateState

if TYPE_CHECKING:
    import duckdb

State = TypeVar("State", bound=AggregateState)

FUNCTION = "tieout_newest_payload"
"""The name of the function in DuckDB: (aggregate type, schema version, payload) -> payload of the newest version."""


class UnreadableEventError(ValueError):
    """A payload cannot be read as a state; the message tells a person why."""


def upcast(state_type: type[AggregateState], schema_version: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the newest version from a state that was stored under `schema_version`.

    Upcasters should not raise. When one raises all the same, its error becomes UnreadableEventError.
    """
    newest = state_type.SCHEMA_VERSION
    if not 1 <= schema_version <= newest:
        raise UnreadableEventError(
            f"its schema version {schema_version} is not one of 1 to {newest}, which this program knows"
        )
    found = dict(state)
    for version in range(schema_version, newest):
        try:
            found = state_type.UPCASTERS[version - 1](found)
        except Exception as error:  # an upcaster is pure, so its error is about the stored fields
            reason = f"{type(error).__name__}: {error}"
            raise UnreadableEventError(f"it cannot be brought from schema version {version} on ({reason})") from None
    return found


def newest_payload(aggregate_type: str, schema_version: int, payload: str) -> str:
    """Return a payload's JSON text in the newest version; UnreadableEventError when it cannot be converted.

    Integers keep every digit. A payload of the newest version is returned unchanged.
    """
    state_type = STATE_TYPES.get(aggregate_type)
    if state_type is None:
        raise UnreadableEventError(f"its type {aggregate_type!r} is not known")
    if schema_version == state_type.SCHEMA_VERSION:
        return payload
    try:
        value = json.loads(payload)
        state = value["state"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableEventError(f"its payload cannot be read: {error}") from None
    if not isinstance(state, dict):
        raise UnreadableEventError("its payload has no state")
    return json.dumps({**value, "state": upcast(state_type, schema_version, state)}, ensure_ascii=False)


def read_state(state_type: type[State], schema_version: int, payload: str) -> State:
    """Return the state of a payload of any version, in the newest version; UnreadableEventError if unreadable."""
    text = newest_payload(state_type.AGGREGATE_TYPE, schema_version, payload)
    try:
        state: State = _decoder(state_type).decode(text).state
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UnreadableEventError(f"its payload cannot be read: {error}") from None
    return state


def newest_sql(aggregate_type: str, payload: str = "payload", schema_version: str = "schema_version") -> str:
    """Return a DuckDB expression for the payload in the newest version; null for an unreadable one (see `register`)."""
    newest = STATE_TYPES[aggregate_type].SCHEMA_VERSION
    older = f"{FUNCTION}('{aggregate_type}', {schema_version}, {payload})"
    return f"if({schema_version} = {newest}, {payload}, {older})"


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Register the function that `newest_sql` calls in the DuckDB instance of `connection`."""
    # Imported here: commands import this module, too, and they do not need DuckDB.
    from duckdb import PythonExceptionHandling

    # The function returns null for an unreadable payload; the reader finds the null and names the event.
    connection.create_function(
        FUNCTION, newest_payload, [str, int, str], str, exception_handling=PythonExceptionHandling.RETURN_NULL
    )


class _Payload(msgspec.Struct, Generic[State], frozen=True):
    """An event's payload; `changed` is left out because readers of the state do not need it."""

    state: State


@cache
def _decoder(state_type: type[State]) -> msgspec.json.Decoder[_Payload[State]]:
    return msgspec.json.Decoder(_Payload[state_type])  # type: ignore[valid-type]


# Made here: two threads that decode a new type at the same time crash the process (contracts/struct_types.py).
for _state_type in STATE_TYPES.values():
    _decoder(_state_type)
