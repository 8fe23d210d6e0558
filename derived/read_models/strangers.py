"""Rows of a view that say they are of another pod than the one that is rebuilt.

An aggregate may have moved there: then its row is that pod's, and stays. If the lake has no event of it from there, the
row is wrong. Belongs here: telling them apart. Does not belong here: rebuilding (`projection.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from derived.read_models import tables
from derived.read_models.tables import Cursor, Root

if TYPE_CHECKING:
    import duckdb


def delete_strangers(
    cursor: Cursor, lake: duckdb.DuckDBPyConnection, kinds: Iterable[tuple[Root, Sequence[tuple[str, str]]]]
) -> int:
    """Delete the rows of these aggregates (merchant_id, id) whose pod has no event of them; return how many."""
    from derived.lake_reads import known_aggregates

    deleted = 0
    for root, keys in kinds:
        for pod, stored in tables.by_pod(cursor, root, keys).items():
            known = known_aggregates(lake, pod, root.aggregate_type, stored)
            deleted += tables.delete_keys(cursor, root, sorted(stored - known), pod)
    return deleted
