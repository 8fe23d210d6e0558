"""The committed JSON Schemas of every version of every aggregate's state. They describe all events that may be stored.

Belongs here: reading them, and comparing each with the present state types. Does not belong here: the rules
(`compatibility.py`), writing them (`docs/generate.py`).
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from contracts.events import STATE_TYPES
from contracts.events.common import AggregateState
from contracts.events.compatibility import Change, changes, upcast_changes
from contracts.events.upcasting import upcast

RESTORE = "bring it back from the history of the project: events of that version are stored"
FOLDER = Path(__file__).resolve().parent / "schemas"


def schema_of(state: type[AggregateState]) -> dict[str, Any]:
    """Return the JSON Schema of the present state type. We add the format of timestamps, which msgspec leaves out."""
    schema = msgspec.json.schema(state)
    for struct in _structs(state):
        hints = typing.get_type_hints(struct)
        for name, field in schema["$defs"][struct.__name__]["properties"].items():
            if datetime in (hints[name], *typing.get_args(hints[name])):
                text = next(one for one in field.get("anyOf", [field]) if one["type"] == "string")
                text["format"] = "date-time"
    return schema


def _structs(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Yield a struct type, and the types of the elements of its lists."""
    yield struct
    for hint in typing.get_type_hints(struct).values():
        for part in typing.get_args(hint) if typing.get_origin(hint) is list else ():
            yield from _structs(part)


def file_of(aggregate_type: str, version: int) -> Path:
    """Return the path of the committed schema of a version."""
    return FOLDER / f"{aggregate_type}.v{version}.json"


def committed(aggregate_type: str) -> dict[int, Mapping[str, Any]]:
    """Return every committed version of an aggregate type, the oldest first."""
    found = {int(path.stem.rpartition(".v")[2]): path for path in FOLDER.glob(f"{aggregate_type}.v*.json")}
    return {version: json.loads(found[version].read_text(encoding="utf-8")) for version in sorted(found)}


def all_changes() -> dict[tuple[str, int], list[Change]]:
    """Return (aggregate type, version) -> the differences of the present type, for every version that may be stored."""
    return {
        (name, version): changes_since(state, version)
        for name, state in STATE_TYPES.items()
        for version in sorted({*committed(name), *range(1, state.SCHEMA_VERSION)})
    }


def changes_since(state: type[AggregateState], version: int) -> list[Change]:
    """Return the differences between a present state type and the states stored under a version, after upcasting."""
    stored = committed(state.AGGREGATE_TYPE).get(version)
    if stored is None:
        return [Change(place="the state", rule="its committed schema is gone", is_breaking=True, way=RESTORE)]
    if version > state.SCHEMA_VERSION:
        said = f"the type has version {state.SCHEMA_VERSION} now, and events of version {version} may be stored"
        return [Change(place="the state", rule=said, is_breaking=True, way=RESTORE)]
    if version == state.SCHEMA_VERSION:
        return changes(stored, schema_of(state))
    return upcast_changes(
        stored, lambda found: upcast(state, version, found), lambda found: msgspec.convert(found, state)
    )


def breaking_sentences() -> list[str]:
    """Return a sentence for every breaking change of the present state types; empty when all events can be read."""
    return [
        f"{name} (stored as version {version}): {change.sentence}"
        for (name, version), found in all_changes().items()
        for change in found
        if change.is_breaking
    ]
