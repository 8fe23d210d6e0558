"""Reading a stored payload of any version as the newest one: each version has a function to the next (an upcaster).

Stored events are never rewritten, so readers bring what they read to the newest version, in Python and in SQL by the
same functions: DuckDB calls them for the events that are older, and only for these.

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
    """A payload cannot be read as a state: the message says why, for people."""


def upcast(state_type: type[AggregateState], schema_version: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a state that was stored under `schema_version` as the newest version names them.

    Upcasters are pure and total; what they raise all the same is UnreadableEventError.
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
        except Exception as error:  # pure functions of what is stored: what they raise is about what is in it
            reason = f"{type(error).__name__}: {error}"
            raise UnreadableEventError(f"it cannot be brought from schema version {version} on ({reason})") from None
    return found


def newest_payload(aggregate_type: str, schema_version: int, payload: str) -> str:
    """Return a payload's text as if the newest version had written it; UnreadableEventError when that cannot be done.

    Whole numbers keep every digit; of the newest version the text stays as it is.
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
    """Return the state in a payload of any version, as the newest one; UnreadableEventError says why it cannot be."""
    text = newest_payload(state_type.AGGREGATE_TYPE, schema_version, payload)
    try:
        state: State = _decoder(state_type).decode(text).state
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UnreadableEventError(f"its payload cannot be read: {error}") from None
    return state


def newest_sql(aggregate_type: str, payload: str = "payload", schema_version: str = "schema_version") -> str:
    """Return DuckDB's expression for the newest form of a payload; null where there is none (see `register`)."""
    newest = STATE_TYPES[aggregate_type].SCHEMA_VERSION
    older = f"{FUNCTION}('{aggregate_type}', {schema_version}, {payload})"
    return f"if({schema_version} = {newest}, {payload}, {older})"


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Let a DuckDB instance read payloads of every version: whoever reads `newest_sql` there needs it."""
    # Imported here: commands read events, too, and have no DuckDB.
    from duckdb import PythonExceptionHandling

    # A payload that cannot be read is null, and its event is unreadable, which is found and named by whoever reads it.
    connection.create_function(
        FUNCTION, newest_payload, [str, int, str], str, exception_handling=PythonExceptionHandling.RETURN_NULL
    )


class _Payload(msgspec.Struct, Generic[State], frozen=True):
    """An event's payload; who reads the state has no interest in `changed`."""

    state: State


@cache
def _decoder(state_type: type[State]) -> msgspec.json.Decoder[_Payload[State]]:
    return msgspec.json.Decoder(_Payload[state_type])  # type: ignore[valid-type]


# Two threads that look at a type for the first time end the process (contracts/struct_types.py).
for _state_type in STATE_TYPES.values():
    _decoder(_state_type)
