"""Whether the stored warehouse has every column that the current models need.

Belongs here: that question. Does not belong here: what is done if not (`derived/warehouse.py` recomputes everything
from the lake, which holds every event; closed months keep their bytes and their cuts).
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator

import duckdb
import msgspec

from contracts.events import STATE_TYPES
from derived.lake_connection import LAKE

_COLUMNS = f"""
select table_name, column_name, data_type from duckdb_columns()
where database_name = '{LAKE}' and schema_name = 'intermediate' and table_name like 'int\\_%\\_history' escape '\\'
"""


def is_outgrown(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether a stored history lacks a column or a field; histories that were never built do not count."""
    stored: dict[str, dict[str, str]] = {}
    for table, column, data_type in connection.execute(_COLUMNS).fetchall():
        stored.setdefault(table, {})[column] = data_type
    if any(not {"valid_to_pod", "directory_epoch"} <= columns.keys() for columns in stored.values()):
        return True
    return any(
        name not in columns or not parts <= set(re.findall(r"\w+", columns[name]))
        for aggregate_type, state in STATE_TYPES.items()
        if (columns := stored.get(f"int_{aggregate_type}s_history"))
        for name, parts in _fields(state)
    )


def _fields(state: type[msgspec.Struct]) -> Iterator[tuple[str, set[str]]]:
    """Yield (field of a state, the fields of its elements if it is a list)."""
    for name, hint in typing.get_type_hints(state).items():
        if name in state.__struct_fields__:
            parts = typing.get_args(hint) if typing.get_origin(hint) is list else ()
            yield name, {field for part in parts for field in part.__struct_fields__}
