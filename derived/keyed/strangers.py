"""Rows of a view that name another pod than the one that is rebuilt.

The aggregate may have moved to that pod; then the row belongs to it and stays. If the lake has no event of the
aggregate from that pod, the row is wrong. Belongs here: telling them apart. Does not belong here: rebuilding
(`projection.py`).
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
    """Delete rows of these aggregates (merchant_id, id) whose pod has no event of them in the lake; return how many.

    If the lake is behind the view in that pod, this cannot be decided yet, and the rows stay.
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
