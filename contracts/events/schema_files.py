"""The committed JSON Schemas of every version of every aggregate's state: what may be stored anywhere.

Belongs here: reading them, and comparing each with the state types of now. Does not belong here: the rules
(`compatibility.py`), writing them (`docs/generate.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from contracts.events import STATE_TYPES
from contracts.events.common import AggregateState
from contracts.events.compatibility import Change, changes

FOLDER = Path(__file__).resolve().parent / "schemas"


def schema_of(state: type[AggregateState]) -> dict[str, Any]:
    """Return the JSON Schema of a state type as it is now."""
    return msgspec.json.schema(state)


def file_of(aggregate_type: str, version: int) -> Path:
    """Return where the schema of a version is committed."""
    return FOLDER / f"{aggregate_type}.v{version}.json"


def committed(aggregate_type: str) -> dict[int, Mapping[str, Any]]:
    """Return every committed version of an aggregate type, the oldest first."""
    found = {int(path.stem.rpartition(".v")[2]): path for path in FOLDER.glob(f"{aggregate_type}.v*.json")}
    return {version: json.loads(found[version].read_text(encoding="utf-8")) for version in sorted(found)}


def all_changes() -> dict[tuple[str, int], list[Change]]:
    """Return, for every committed version of every aggregate type, how the type of now differs from it."""
    return {
        (name, version): changes(stored, schema_of(state))
        for name, state in STATE_TYPES.items()
        for version, stored in committed(name).items()
    }


def breaking_sentences() -> list[str]:
    """Return what must not be done to the state types as they are now, a sentence each; empty: all can be read."""
    return [
        f"{name} (stored as version {version}): {change.sentence}"
        for (name, version), found in all_changes().items()
        for change in found
        if change.is_breaking
    ]
