"""Whether the stored warehouse has every column that the current models need, and adding those that are just new.

Belongs here: that question, and the columns of new fields that no stored event has. Does not belong here: what is done
about all others (`derived/warehouse.py` recomputes everything from the lake, which holds every event; closed months
keep their bytes and their cuts).
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping

import duckdb
import msgspec

from contracts.events import STATE_TYPES
from derived.defects import payload_type
from derived.lake_connection import LAKE, quote, transaction

_COLUMNS = f"""
select table_name, column_name, data_type from duckdb_columns()
where database_name = '{LAKE}' and schema_name = 'intermediate' and table_name like 'int\\_%\\_history' escape '\\'
"""


# An event that says something else than the default. The text is looked for first, because it is cheaper to find.
_SAYS_OTHER = f"""
select exists (
    from {LAKE}.raw.events
    where aggregate_type = $aggregate_type and contains(payload, $quoted)
      and coalesce(try_cast(json_extract_string(payload, $path) as {{type}}), {{default}}) is distinct from {{default}}
)
"""


_SAYS_SOME = f"""
select exists (
    from {LAKE}.raw.events
    where aggregate_type = $aggregate_type and contains(payload, $quoted)
      and coalesce(json_array_length(payload, $path), 0) > 0
)
"""


def grow(connection: duckdb.DuckDBPyConnection) -> None:
    """Add to the stored histories the columns of new fields for which every stored event has the default.

    A new optional field is such a field when its first version is deployed: nobody wrote it before. Then rows that are
    already stored are as a build from nothing would make them, and nothing is computed anew. A field of a list's
    elements, a new list of parts that have lists themselves, and a type with converted versions are left to
    `is_outgrown`.
    """
    stored = _stored(connection)
    for aggregate_type, state in STATE_TYPES.items():
        columns = stored.get(f"int_{aggregate_type}s_history")
        if columns is None or state.SCHEMA_VERSION > 1:
            continue
        hints = typing.get_type_hints(state)
        for field in msgspec.structs.fields(state):
            if field.required or field.name in columns:
                continue
            kind = payload_type(hints[field.name])
            if isinstance(kind, str):
                _add_column(connection, aggregate_type, field.name, kind, _literal(field.default))
            elif all(isinstance(part, str) for part in kind[0].values()):
                _add_list(connection, aggregate_type, field.name, kind[0])


def _add_column(connection: duckdb.DuckDBPyConnection, aggregate_type: str, name: str, kind: str, default: str) -> None:
    bound = {"aggregate_type": aggregate_type, "quoted": f'"{name}"', "path": f"$.state.{name}"}
    if connection.execute(_SAYS_OTHER.format(type=kind, default=default), bound).fetchall() == [(False,)]:
        table = f"{LAKE}.intermediate.int_{aggregate_type}s_history"
        with transaction(connection, "build"):
            connection.execute(f"alter table {table} add column {name} {kind} default {default}")


def _add_list(connection: duckdb.DuckDBPyConnection, aggregate_type: str, name: str, parts: Mapping[str, str]) -> None:
    """Add the column of a new list, which is empty in every event; the lake has no lists as defaults of columns."""
    bound = {"aggregate_type": aggregate_type, "quoted": f'"{name}"', "path": f"$.state.{name}"}
    if connection.execute(_SAYS_SOME, bound).fetchall() == [(False,)]:
        table = f"{LAKE}.intermediate.int_{aggregate_type}s_history"
        kind = ", ".join(f"{part} {of}" for part, of in parts.items())
        with transaction(connection, "build"):
            connection.execute(f"alter table {table} add column {name} struct({kind})[]")
            connection.execute(f"update {table} set {name} = []")


def _literal(default: object) -> str:
    if default is None:
        return "null"
    return quote(default) if isinstance(default, str) else str(default).lower()


def is_outgrown(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether a stored history lacks a column or a field; histories that were never built do not count."""
    stored = _stored(connection)
    if any(not {"valid_to_pod", "directory_epoch"} <= columns.keys() for columns in stored.values()):
        return True
    return any(
        name not in columns or not parts <= set(re.findall(r"\w+", columns[name]))
        for aggregate_type, state in STATE_TYPES.items()
        if (columns := stored.get(f"int_{aggregate_type}s_history"))
        for name, parts in _fields(state)
    )


def _stored(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return the columns of every stored history, with their types."""
    stored: dict[str, dict[str, str]] = {}
    for table, column, data_type in connection.execute(_COLUMNS).fetchall():
        stored.setdefault(table, {})[column] = data_type
    return stored


def _fields(state: type[msgspec.Struct]) -> Iterator[tuple[str, set[str]]]:
    """Yield (field of a state, the fields of its elements if it is a list)."""
    for name, hint in typing.get_type_hints(state).items():
        if name in state.__struct_fields__:
            parts = typing.get_args(hint) if typing.get_origin(hint) is list else ()
            yield name, {field for part in parts for field in part.__struct_fields__}
