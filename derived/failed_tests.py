"""Which rows failed a test of the warehouse: their keys, so that people can look them up.

Belongs here: running a failed test's own query for a few keys. Does not belong here: running tests
(`derived/warehouse.py`).
"""

from __future__ import annotations

import duckdb

from contracts.text import visible

ROWS_MAX = 5
LENGTH_MAX = 100
"""Characters shown of one value."""
KEY_NAMES = ("pod", "version", "currency", "account", "jurisdiction", "line_number", "expected_version")
KEY_ENDINGS = ("_id", "_date", "_month", "_name")


def failing_keys(connection: duckdb.DuckDBPyConnection, compiled: str | None) -> str:
    """Return the keys of the first rows that a compiled test returns (``order_id=1, pod=pod1; ...``); "" if unknown.

    The rows are in the query's order. Amounts and texts of the rows are not shown.
    """
    if not compiled:
        return ""
    try:
        found = connection.execute(f"from (\n{compiled}\n) limit {ROWS_MAX}")
        names = [str(column[0]) for column in found.description]
        rows = found.fetchall()
    except duckdb.Error:
        # The build has already failed and reported it; an error in this query must not hide that failure.
        return ""
    return "; ".join(text for row in rows if (text := _keys(dict(zip(names, row, strict=True)))))


def with_keys(text: str, keys: str) -> str:
    """Return a test's name or message, followed by the keys of its failed rows if there are any."""
    return f"{text} (the first: {keys})" if keys else text


def _keys(row: dict[str, object]) -> str:
    chosen = {name: value for name, value in row.items() if name in KEY_NAMES or name.endswith(KEY_ENDINGS)}
    return ", ".join(
        f"{name}={visible(str(value))[:LENGTH_MAX]}" for name, value in chosen.items() if value is not None
    )
