"""Where a read model stands, as it says itself, and whether a cut of that number exists at all.

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
from reconcile.lake import PartitionPosition
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
    """Return a position as results show it."""
    return f"{position.cut}+{position.chunk}" if position.chunk else str(position.cut)


def known_positions(run: PodRun, positions: Sequence[PartitionPosition]) -> tuple[Sequence[PartitionPosition], Outcome]:
    """Return the positions, those beyond every cut there is set to the newest one, and these as differences.

    A view that stands where no cut is would wait for ever, and look late. A lake that is beyond the pod as well says
    that the pod was put back to an earlier state: then nobody is ahead of the others.
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
