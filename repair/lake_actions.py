"""Actions on the lake's events: read the published events again, and pass them to the lake's repair functions.

Belongs here: those actions, and what the audit keeps of them: content hashes, and the differing values. Does not belong
here: changing the lake (`derived/lake_repair.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from contracts.settings import Settings
from derived.lake_backup import events_from_backup
from derived.lake_connection import bounds_of, open_lake
from derived.lake_gaps import load_cuts
from derived.lake_repair import (
    LakeChange,
    remove_duplicates,
    remove_extra_events,
    replace_events,
    restore_events,
    set_lake_position,
)
from derived.lake_schema import EVENTS
from repair.evidence.lake_events import digest
from repair.values import KEYS_SHOWN, Action, ActionKind, Source
from streams.reissue import REISSUED_SCHEMA, events_of_cuts, unpruned_after

COLUMNS = ", ".join(f'"{name}"' for name in REISSUED_SCHEMA.names)
ROWS = f"select {COLUMNS} from {EVENTS} where pod = $pod and event_id in (select unnest($event_ids::varchar[]))"
VALUES_SHOWN = 20
"""Largest number of values per event that the audit keeps."""

Row = Mapping[str, Any]


def rows_of(settings: Settings, action: Action) -> dict[str, Any]:
    """Return event id -> content hashes of its rows in the lake, for the action's first events."""
    chosen = list(action.keys[:KEYS_SHOWN])
    with open_lake(settings, read_only=True) as lake:
        table = lake.execute(ROWS, {"pod": action.pod, "event_ids": chosen}).to_arrow_reader().read_all()
    hashes: dict[str, list[str]] = {event_id: [] for event_id in chosen}
    for row in table.cast(REISSUED_SCHEMA).to_pylist():
        hashes[row["event_id"]].append(digest(row))
    return {"row_hashes": {event_id: sorted(found) for event_id, found in hashes.items()}}


def mend(settings: Settings, action: Action) -> dict[str, Any]:
    """Execute the action; return the number of changed rows, and the differing values of replaced rows."""
    change = _change(settings, action)
    result: dict[str, Any] = {"rows_changed": change.events, "lowest_cut": change.lowest_cut}
    if action.kind is ActionKind.REPLACE_EVENTS:
        result["values"] = _differing(change.before, change.after)
    if action.kind is ActionKind.REMOVE_EXTRA_EVENTS:
        # No store has these rows any more, so the audit keeps them.
        result["removed"] = [_shown(row) for row in change.before[:KEYS_SHOWN]]
    return result


def set_position(settings: Settings, action: Action) -> bool:
    """Set the lake's position in the pod to the action's cut; return whether that changed it."""
    change = set_lake_position(
        settings.catalog_dsn, settings.lake_data_path, action.pod, action.cuts[0], bounds=bounds_of(settings)
    )
    return change.before != change.after


def load(settings: Settings, action: Action) -> int:
    """Load the backup's cuts after the lake's position into the lake; return the number of events."""
    folder = settings.lake_backup_path
    return load_cuts(
        settings.catalog_dsn, settings.lake_data_path, folder, action.pod, bounds=bounds_of(settings)
    ).events


def _change(settings: Settings, action: Action) -> LakeChange:
    lake, bounds = (settings.catalog_dsn, settings.lake_data_path, action.pod), bounds_of(settings)
    if action.kind is ActionKind.REMOVE_DUPLICATES:
        return remove_duplicates(*lake, action.keys, bounds=bounds)
    if action.kind is ActionKind.REMOVE_EXTRA_EVENTS:
        pod = settings.pod(action.pod)
        published = events_of_cuts(pod, _registered(settings, action))
        return remove_extra_events(
            *lake, action.keys, published=published, unpruned_after=unpruned_after(pod), bounds=bounds
        )
    events = _as_sent(settings, action)
    change = restore_events if action.kind is ActionKind.RESTORE_EVENTS else replace_events
    return change(*lake, events, bounds=bounds)


def _registered(settings: Settings, action: Action) -> list[int]:
    """Return the action's cuts that the pod has registered, because an event that was never sent may name any cut."""
    from streams.reissue import newest_cut

    newest = newest_cut(settings.pod(action.pod))
    return [cut for cut in action.cuts if cut <= newest]


def _as_sent(settings: Settings, action: Action) -> pa.Table:
    """Return the action's events as published, read again because the outbox may have been pruned meanwhile."""
    pod = settings.pod(action.pod)
    base = unpruned_after(pod) if action.source is Source.OUTBOX else max(action.cuts)
    tables = [
        events_of_cuts(pod, [cut for cut in action.cuts if cut > base]),
        events_from_backup(
            settings.lake_backup_path,
            action.pod,
            [cut for cut in action.cuts if cut <= base],
            bounds=bounds_of(settings),
        ),
    ]
    events = pa.concat_tables(tables)
    return events.filter(pc.is_in(events.column("event_id"), value_set=pa.array(action.keys, pa.string())))


def _differing(before: Sequence[Row], after: Sequence[Row]) -> dict[str, dict[str, list[Any]]]:
    """Return event id -> column (or path in the payload) -> [value before, value after]."""
    right = {row["event_id"]: _shown(row) for row in after}
    found: dict[str, dict[str, list[Any]]] = {}
    for row in before[:KEYS_SHOWN]:
        wrong, sent = _shown(row), right.get(row["event_id"], {})
        names = [name for name in sorted({*wrong, *sent}) if wrong.get(name) != sent.get(name)]
        found[row["event_id"]] = {name: [wrong.get(name), sent.get(name)] for name in names[:VALUES_SHOWN]}
    return found


def _shown(row: Row) -> dict[str, Any]:
    """Return an event as JSON values by column; the payload is flattened to one value per path."""
    values = {name: value if isinstance(value, str | int | None) else str(value) for name, value in row.items()}
    payload = values.pop("payload", None)
    try:
        parsed = json.loads(str(payload))
    except ValueError:
        return {**values, "payload": payload}
    return {**values, **dict(_leaves("payload", parsed))}


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for name, part in value.items() for leaf in _leaves(f"{path}.{name}", part)]
    if isinstance(value, list):
        return [leaf for number, part in enumerate(value) for leaf in _leaves(f"{path}.{number}", part)]
    return [(path, value)]
