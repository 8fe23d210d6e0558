"""Rows of a view that say they are of another pod than the one that is rebuilt.

An aggregate may have moved there: then its row is that pod's, and stays. If the lake has no event of it from there, the
row is wrong. Belongs here: telling them apart. Does not belong here: rebuilding (`projection.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from derived.keyed.rows import Root
from derived.keyed.store import Key, KeyedSession

if TYPE_CHECKING:
    import duckdb


def delete_strangers(
    session: KeyedSession, lake: duckdb.DuckDBPyConnection, kinds: Iterable[tuple[Root, Sequence[Key]]]
) -> int:
    """Delete the rows of these aggregates (merchant_id, id) whose pod has no event of them; return how many.

    Where the lake does not have yet what the view has applied of that pod, nobody can say so, and the rows stay.
    """
    from derived.lake_reads import has_reached, known_aggregates

    deleted = 0
    for root, keys in kinds:
        for pod, stored in session.pods_of(root, keys).items():
            applied = {partition: at for partition, (_, at) in session.positions(pod).items()}
            if applied and not has_reached(lake, pod, applied):
                continue
            known = known_aggregates(lake, pod, root.aggregate_type, stored)
            deleted += session.delete(root, sorted(stored - known), pod)
    return deleted
