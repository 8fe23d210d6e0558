"""The positions that a read model has stored, and whether their cuts exist.

Belongs here: reading positions for a comparison. Does not belong here: comparing rows as of them
(`reconcile/read_model_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg

from contracts.verdicts import ColumnDifference, Difference, DifferenceClass
from reconcile.compare import Outcome
from reconcile.lake_side import PartitionPosition
from reconcile.pair import PodRun

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

POSITIONS = "select partition::bigint, cut, chunk::bigint from read_models.positions where projection = $1 and pod = $2"
NEWEST_CUT = "select coalesce(max(cut), 0) from oltp.cuts"


def read_positions(cursor: adbc.Cursor, projection: str, pod: str) -> list[PartitionPosition]:
    """Return the position of every partition."""
    cursor.execute(POSITIONS, (projection, pod))
    rows = sorted((tuple(row) for row in cursor.fetchall()), key=str)
    return [
        PartitionPosition(partition=int(str(partition)), cut=int(str(cut)), chunk=int(str(chunk)))
        for partition, cut, chunk in rows
    ]


def shown(position: PartitionPosition) -> str:
    """Return a position as text for results: `cut` or `cut+chunk`."""
    return f"{position.cut}+{position.chunk}" if position.chunk else str(position.cut)


def known_positions(run: PodRun, positions: Sequence[PartitionPosition]) -> tuple[Sequence[PartitionPosition], Outcome]:
    """Return the positions, and as differences those above the newest cut; in the positions these are set to that cut.

    A view with a position above every cut would never continue, although it only seems late. When the lake is also
    above the pod's newest cut, the pod was restored to an earlier state; then the lake's cut is the newest.
    """
    with psycopg.connect(run.context.pods[run.pod], autocommit=True) as connection:
        registered = int(connection.execute(NEWEST_CUT).fetchall()[0][0])
    newest = max(registered, run.context.lake_cut(run.connection, run.pod))
    beyond = [position for position in positions if position.cut > newest]
    known = [replace(position, cut=newest, chunk=0) if position in beyond else position for position in positions]
    differences = tuple(_beyond(position, newest) for position in beyond)
    classes = {DifferenceClass.DIFFERENT: len(beyond)} if beyond else {}
    return known, Outcome(compared=len(positions), classes=classes, sample=differences)


def _beyond(position: PartitionPosition, newest: int) -> Difference:
    column = ColumnDifference(column="cut", left=newest, right=position.cut)
    return Difference(
        entity="positions", key=(str(position.partition),), kind=DifferenceClass.DIFFERENT, columns=(column,)
    )
