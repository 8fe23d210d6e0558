"""Metadata of a built model on Dagster's pages: its number of rows, and the column lineage.

Belongs here: adding both to dbt's events at low cost. Does not belong here: columns, types and descriptions, which the
pages read from dbt's manifest. dagster-dbt's own way queries the warehouse for the columns of each model and its
parents, and parses the SQL once per column. Here the columns come from the manifest, and the SQL is parsed once: 0.2 s
for all models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage

from contracts.text import cuts_text
from derived.builds import Build
from derived.warehouse import stored_rows, view_rows

ROW_COUNT, COLUMN_LINEAGE = "dagster/row_count", "dagster/column_lineage"
"""Keys of metadata that Dagster's pages know."""

SOURCES = ("raw", "builds")
"""Schemas that dbt only reads; in the graph their tables are assets of the lake."""
PAYLOAD = ("raw", "events", "payload")
"""Source of the staging columns that the SQL does not name: they are unpacked from the event's payload."""

DIALECT = "duckdb"

Schema = dict[str, dict[str, dict[str, dict[str, str]]]]
"""Database -> schema -> table -> column -> type."""
Place = tuple[str, str, str]
"""Schema, table, column."""


def described(events: Iterable[Any], build: Build, manifest: Mapping[str, Any], target: Path) -> Iterator[Any]:
    """Yield dbt's events; add cuts, row counts and columns to those of built models. `target`: dbt's target folder.

    A mart is counted with one query that reads it completely, like one of its tests. Staging views are not counted:
    each count would read every event.
    """
    schema = schema_of(manifest)
    for event in events:
        if not isinstance(event, dg.Output):
            yield event
            continue
        node = manifest["nodes"][event.metadata["unique_id"].value]
        seen = {
            "build_id": build.build_id,
            "cuts": cuts_text(build.cuts),
            ROW_COUNT: _row_count(build, node),
            COLUMN_LINEAGE: _lineage(node, schema, target),
        }
        told = {name: value for name, value in seen.items() if value is not None}
        yield event.with_metadata({**event.metadata, **told})


def schema_of(manifest: Mapping[str, Any]) -> Schema:
    """Return every model and source with its columns and their types."""
    found: Schema = {}
    for node in (*manifest["nodes"].values(), *manifest["sources"].values()):
        if node["resource_type"] in ("model", "source"):
            columns = {name: column["data_type"] for name, column in node["columns"].items()}
            found.setdefault(node["database"], {}).setdefault(node["schema"], {})[node["name"]] = columns
    return found


def columns_read(sql: str, schema: Schema) -> dict[str, set[Place]]:
    """Return for each column of a query the columns it is computed from; SqlglotError if it does not parse."""
    nodes = lineage(
        None,
        sql,
        schema,
        dialect=DIALECT,
        trim_selects=False,
        validate_qualify_columns=False,
        quote_identifiers=False,
    )
    return {column: set(_read(node)) for column, node in nodes.items()}


def _row_count(build: Build, node: Mapping[str, Any]) -> int | None:
    """Return how many rows a model has; None for a staging view and for a mart that cannot be read."""
    if node["schema"] == "intermediate":
        return stored_rows(build.connection, node["name"]).get(node["name"])
    if node["schema"] != "marts":
        return None
    try:
        return view_rows(build.connection, node["schema"], node["name"])
    except duckdb.Error:
        # The count is only information: a failing count must not fail the build. dbt's own tests report the fault.
        return None


def _read(column: Node) -> Iterator[Place]:
    for node in column.walk():
        if isinstance(node.source, exp.Table):
            yield node.source.db, node.source.name, node.name.rpartition(".")[2]


def _lineage(node: Mapping[str, Any], schema: Schema, target: Path) -> dg.TableColumnLineage | None:
    """Return the lineage of a model's columns; None if its SQL cannot be read or parsed."""
    path = target / "compiled" / node["package_name"] / node["original_file_path"]
    try:
        found = columns_read(path.read_text(encoding="utf-8"), schema)
    except (OSError, SqlglotError):
        # The lineage is only information: a build must not fail because of it.
        return None
    if node["schema"] == "staging":
        found = {name: {PAYLOAD} for name in node["columns"]} | found
    own = (node["schema"], node["name"])
    return dg.TableColumnLineage(
        deps_by_column={
            name: [
                dg.TableColumnDep(asset_key=_asset_key(*place[:2]), column_name=place[2])
                for place in sorted(places)
                if place[:2] != own
            ]
            for name, places in found.items()
            if name in node["columns"]
        }
    )


def _asset_key(schema: str, table: str) -> dg.AssetKey:
    return dg.AssetKey(["lake" if schema in SOURCES else schema, table])
