"""Which views the lake has as dbt made them: while they are what they were, a build need not go through them.

A view is made once and then left alone, but dbt goes through thirty of them, one by one, in each build, a fifth of its
time. Belongs here: remembering what dbt made in this process, and looking whether the lake has it. Does not belong
here: making views (dbt_project/macros/view.sql writes what is read here into their comments), running dbt
(`derived/warehouse.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from derived.lake_connection import LAKE

WITHOUT_VIEWS = ("--exclude", "config.materialized:view", "--indirect-selection", "empty")
"""Arguments of dbt: without the views, with the tests of what is read through them."""

_made: dict[str, str] = {}
"""View -> the end of its comment, of the whole warehouse that dbt went through last in this process."""


def unchanged_views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of all views if the lake has each as dbt last made it in this process; else none."""
    return sorted(name.partition(".")[2] for name in _made) if _made and definitions(connection) == _made else []


def remember_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Note what the lake has now, after dbt went through all views without a fault."""
    found = definitions(connection)
    _made.clear()
    _made.update(found)


def definitions(connection: duckdb.DuckDBPyConnection) -> Mapping[str, str]:
    """Return the warehouse's views (``schema.name``), each with the hash of its definition that its comment ends in."""
    rows = connection.execute(
        """select schema_name || '.' || view_name, coalesce(right(comment, 32), '') from duckdb_views()
           where database_name = ? and not internal order by 1""",
        [LAKE],
    ).fetchall()
    return dict(rows)
