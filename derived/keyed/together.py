"""Rebuilding several views of a pod at the same time, for which the lake is read once.

Belongs here: running the rebuilds beside each other. Does not belong here: one rebuild (`projection.py`), how the lake
is read (`lake_reading.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from derived.keyed.lake_reading import ReadingTogether
from derived.keyed.projection import KeyedProjection
from derived.keyed.rebuilding import Rebuilt

if TYPE_CHECKING:
    import duckdb


def rebuild_together(
    views: Sequence[KeyedProjection],
    pod: str,
    open_lake: Callable[[], duckdb.DuckDBPyConnection],
    *,
    taking_lake_position: Collection[str] = (),
) -> Mapping[str, Rebuilt | Exception]:
    """Make everything of `pod` in each of these views equal to the lake; return each one's result, or its error.

    Each view is rebuilt in a transaction of its own, so that one that fails changes nothing and does not stop the
    others. The views named in `taking_lake_position` first take the lake's position.
    """
    reading = ReadingTogether(open_lake, len(views))

    def rebuild(view: KeyedProjection) -> Rebuilt | Exception:
        try:
            return view.rebuild_all(pod, is_lake_position_taken=view.name in taking_lake_position, reading=reading)
        except Exception as error:  # any error: the other views are rebuilt all the same
            return error
        finally:
            reading.leave()

    with ThreadPoolExecutor(max(1, len(views)), thread_name_prefix="rebuilds") as threads:
        return dict(zip([view.name for view in views], threads.map(rebuild, views), strict=True))
