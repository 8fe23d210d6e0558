"""Comparing a copy that keeps no history with the lake as of the copy's own positions.

Belongs here: what such comparisons share: waiting for the lake, leaving parked aggregates out, saying how late the copy
is. Does not belong here: reading a copy (`reconcile/read_model_pairs.py`, `reconcile/copies/search.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from contracts.errors import LateError
from contracts.ownership import copy_named
from contracts.text import are, counted
from reconcile.compare import Outcome
from reconcile.context import wait_for
from reconcile.entities import AGGREGATE_ID, entities_of
from reconcile.lake_side import PartitionPosition, right_name
from reconcile.pair import Findings, PodRun
from reconcile.parked import ParkedAggregate
from reconcile.scratch import table
from reconcile.view_positions import shown
from reconcile.view_tables import ViewTable

OLDEST_UNAPPLIED = "select min(data_at) from lake.raw.cuts where pod = $pod and cut > $cut"


def lag_seconds_max(copy: str) -> float:
    """Return the largest allowed lag of a copy."""
    return float(copy_named(copy).late_seconds_max)


def load_parked(run: PodRun, parked: Sequence[ParkedAggregate]) -> None:
    """Write which aggregates the copy has parked, for `sides`."""
    target = table("parked_keys")
    run.connection.execute(f"create or replace table {target} (aggregate_type varchar, aggregate_id varchar)")
    for one in parked:
        run.connection.execute(f"insert into {target} values ($1, $2)", [one.aggregate_type, one.aggregate_id])


def await_lake(run: PodRun, pod: str, copy: str, positions: Sequence[PartitionPosition]) -> None:
    """Wait until the lake has what the copy has applied; LateError if it does not come in time."""
    needed = max((position.cut + (1 if position.chunk else 0) for position in positions), default=0)
    allowed = 0.0 if run.is_lake_late else lag_seconds_max(copy)
    if not wait_for(run.context, lambda: run.context.lake_cut(run.connection, pod) >= needed, allowed):
        raise LateError(f"The lake has not reached cut {needed} of {pod}, up to which {copy} is applied.")


def sides(run: PodRun, item: ViewTable, loaded: str) -> tuple[str, str]:
    """Write the rows that a table must hold; return the names of expected and actual rows, both without parked keys.

    `loaded` is the scratch table with the actual rows.
    """
    expected = table(f"expected_{item.name}")
    states = {entity.shape.name: table(right_name(entity)) for entity in entities_of(item.aggregate_type)}
    run.connection.execute(f"create or replace table {expected} as {item.expected.format(**states)}")
    left_out = f"(select aggregate_id from {table('parked_keys')} where aggregate_type = '{item.aggregate_type}')"
    left = f"(select * from {expected} where {AGGREGATE_ID} not in {left_out})"
    right = f"(select * from {table(loaded)} where {item.id_column} not in {left_out})"
    return left, right


def wholly_if_set_back(run: PodRun, stored: Sequence[PartitionPosition]) -> PodRun:
    """Return the run, without a scope if the copy stands below the last comparison's cut.

    It was set back then. Its rows of later cuts have no newer event, so the scope would miss them: compare everything.
    """
    is_set_back = run.scope is not None and floor_of(stored) < run.scope.since_cut
    return replace(run, scope=None) if is_set_back else run


def findings(
    run: PodRun,
    copy: str,
    positions: Sequence[PartitionPosition],
    outcomes: Sequence[Outcome],
    parked: Sequence[ParkedAggregate],
    *,
    is_own: bool = True,
) -> Findings:
    """Return what the comparison found; `parked` was left out, by the copy or, not `is_own`, by the lake."""
    floor = floor_of(positions)
    return Findings(
        outcomes=outcomes,
        is_whole=run.scope is None,
        cut=floor,
        cut_vector={str(position.partition): shown(position) for position in positions},
        late_aggregates=[one.key for one in parked],
        late_reason=lateness(run, copy, floor, len(parked) if is_own else 0),
    )


def floor_of(positions: Sequence[PartitionPosition]) -> int:
    """Return the cut up to which a copy at these positions has everything."""
    return min((position.cut for position in positions), default=0)


def lateness(run: PodRun, copy: str, floor: int, parked: int) -> str:
    """Return why the copy is late, or an empty text: it has parked keys, or an unapplied cut that is too old."""
    rows = run.connection.execute(OLDEST_UNAPPLIED, {"pod": run.pod, "cut": floor}).fetchall()
    oldest = rows[0][0]
    if oldest is not None:
        seconds = (run.context.now() - oldest).total_seconds()
        if seconds > lag_seconds_max(copy):
            return f"{copy} stands at cut {floor} of {run.pod}; the next one is {seconds:.0f} s old."
    return f"{counted(parked, 'aggregate')} of {run.pod} {are(parked)} parked and left out." if parked else ""
