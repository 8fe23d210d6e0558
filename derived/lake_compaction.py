"""Compaction: merging the lake's small files, and dropping history and files that nobody can read any more.

Belongs here: one compaction. Does not belong here: when it runs (`orchestration/definitions.py`,
`stack/upkeep/timetable.py`), which files are the lake's (`derived/lake_files.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from derived.lake_connection import DEFAULT_BOUNDS, LAKE, Bounds, connect_lake, quote, transaction
from derived.lake_files import is_conflict


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """The result of one compaction."""

    files_before: int
    """Data files that the newest snapshot reads."""
    files_after: int
    snapshots_expired: int
    files_deleted: int
    """Old files removed from the data path."""


def compact(
    catalog_dsn: str,
    data_path: str,
    *,
    keep_seconds: int = 3600,
    files_per_table_max: int = 1000,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Compaction:
    """Merge small files, rewrite files with deleted rows (the fences), and drop history and files that nobody can read.

    Snapshots younger than `keep_seconds` stay, and files stay for the same time after their last snapshot was dropped.
    So a transaction or query may take that long. After a conflict with a writer, compaction gives way, and the next run
    does the work.
    """
    older = f"older_than => now() - to_seconds({int(keep_seconds)})"
    with connect_lake(catalog_dsn, data_path, bounds=bounds) as connection:
        before = _file_count(connection)
        for table in _rewritten_tables(connection):
            arguments = f"'{LAKE}', {quote(table)}, schema => 'raw', delete_threshold => 0"
            _unless_conflict(connection, f"call ducklake_rewrite_data_files({arguments})")
        # Until here small tables of other schemas (build records) are kept in the catalog.
        _unless_conflict(connection, f"call ducklake_flush_inlined_data('{LAKE}')")
        limit = f"max_compacted_files => {int(files_per_table_max)}"
        _unless_conflict(connection, f"call ducklake_merge_adjacent_files('{LAKE}', {limit})")
        expired = _count(connection, f"ducklake_expire_snapshots('{LAKE}', {older})")
        deleted = _count(connection, f"ducklake_cleanup_old_files('{LAKE}', {older})")
        return Compaction(
            files_before=before,
            files_after=_file_count(connection),
            snapshots_expired=expired,
            files_deleted=deleted,
        )


def _count(connection: duckdb.DuckDBPyConnection, call: str) -> int:
    rows = connection.execute(f"select count(*) from {call}").fetchall()
    return int(rows[0][0])


def _file_count(connection: duckdb.DuckDBPyConnection) -> int:
    rows = connection.execute(f"select sum(file_count) from ducklake_table_info('{LAKE}')").fetchall()
    return int(rows[0][0] or 0)


def _rewritten_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        """select table_name from duckdb_tables() where database_name = ? and schema_name = 'raw'
           and (table_name like 'fence\\_%' escape '\\' or table_name = 'parked') order by table_name""",
        [LAKE],
    ).fetchall()
    return [str(row[0]) for row in rows]


def _unless_conflict(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    try:
        with transaction(connection, "compaction"):
            connection.execute(statement).fetchall()
    except duckdb.TransactionException as error:
        if not is_conflict(error):
            raise
