"""The scratch space of a comparison: an in-memory DuckDB catalog with a memory limit that spills to disk.

Belongs here: opening and bounding it, and loading an Arrow stream into it. Does not belong here: comparing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

MEMORY_LIMIT_MB = 512
"""Of DuckDB's own; a process takes about 250 MB besides. Twice as much saves a tenth of the time at 1 M orders."""

CATALOG = "scratch"
"""Name under which the scratch catalog is attached beside whatever the connection already has (the lake)."""


def table(name: str) -> str:
    """Return the qualified name of a scratch table."""
    return f'{CATALOG}.main."{name}"'


@contextmanager
def scratch(
    connection: duckdb.DuckDBPyConnection, *, memory_limit_mb: int = MEMORY_LIMIT_MB, folder: Path | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach a scratch catalog to `connection`, bounded by `memory_limit_mb`; what does not fit goes to `folder`."""
    with tempfile.TemporaryDirectory(prefix="tieout-compare-", dir=folder) as spill:
        connection.execute("set TimeZone = 'UTC'")
        # DuckDB draws it on standard output, where a command's answer belongs.
        connection.execute("set enable_progress_bar = false")
        connection.execute("set preserve_insertion_order = false")
        connection.execute("set memory_limit = $limit", {"limit": f"{memory_limit_mb}MB"})
        connection.execute("set temp_directory = $folder", {"folder": spill})
        connection.execute(f"attach ':memory:' as {CATALOG}")
        try:
            yield connection
        finally:
            connection.execute("use memory")
            connection.execute(f"detach {CATALOG}")


def load(connection: duckdb.DuckDBPyConnection, name: str, reader: pa.RecordBatchReader, select: str = "*") -> None:
    """Create the scratch table `name` from an Arrow stream; `select` is a list of expressions over its columns."""
    connection.register("incoming", reader)
    try:
        connection.execute(f"create or replace table {table(name)} as select {select} from incoming")
    finally:
        connection.unregister("incoming")
