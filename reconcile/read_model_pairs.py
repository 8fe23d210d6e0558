"""Lake <-> read models: compares every row of every view, at the view's own positions.

A view keeps no history, so we cannot choose the cut. We read its rows and its position in every partition in one
snapshot, and fold the lake's events as of exactly these positions. Belongs here: reading and comparing any view. Does
not belong here: what each view must hold (`reconcile/copies/`), the views (`derived/read_models/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from contracts.errors import ComparisonError
from reconcile.compare import compare
from reconcile.copies import VIEWS
from reconcile.entities import AGGREGATE_ID
from reconcile.lake_side import PartitionPosition, at_positions, fold, in_scope
from reconcile.moved import ELSEWHERE, has_moved, write_elsewhere
from reconcile.oltp_side import snapshot_cursor, stream
from reconcile.own_positions import await_lake, findings, lag_seconds_max, load_parked, sides, wholly_if_set_back
from reconcile.pair import Findings, Pair, PodRun, Stage
from reconcile.parked import ParkedAggregate, overdue
from reconcile.scoping import postgres_condition
from reconcile.scratch import load
from reconcile.shapes import BIGINT, TIMESTAMP, VARCHAR
from reconcile.view_positions import known_positions, read_positions
from reconcile.view_sums import compare_sums, read_sums
from reconcile.view_tables import View, ViewTable

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

CASTS = {VARCHAR: "text", BIGINT: "bigint", TIMESTAMP: "timestamptz"}

PARKED = """
    select aggregate_key, count(*), min(parked_at), (array_agg(error order by cut, position))[1]
    from read_models.parked_events where projection = $1 and pod = $2 group by aggregate_key order by aggregate_key
"""
# The rows of a part, with their root's pod. PostgreSQL estimates that to look for an orphan's pod costs much. With this
# condition beside the join it would rather read the whole root than look up a few rows: `offset 0` keeps them apart.
WITH_POD = """(
    select present.*, root.pod
    from {source} left join read_models.{root} as root using (merchant_id, {id_column})
    where {looked_at} offset 0
) as present"""


def _compare(run: PodRun, view: View) -> Findings:
    dsn = run.context.read_models_dsn
    if dsn is None:
        raise ComparisonError("The read models cannot be looked at: this run was given no connection to them.")
    with snapshot_cursor(dsn) as cursor:
        stored = read_positions(cursor, view.name, run.pod)
        run = wholly_if_set_back(run, stored)
        parked = _parked(cursor, view.name, run.pod)
        others = {pod: read_positions(cursor, view.name, pod) for pod in run.context.pods if pod != run.pod}
        for item in view.tables:
            _read(run, cursor, item)
        for summed in view.sums:
            read_sums(run, cursor, summed)
    load_parked(run, parked)
    positions, beyond = known_positions(run, stored)
    await_lake(run, run.pod, view.name, positions)
    _find_moved(run, view, {**others, run.pod: positions})
    outcomes = [beyond, overdue(parked, run.context.now(), lag_seconds_max(view.name), run.context.limits)]
    extent = in_scope(run, at_positions(run.connection, run.pod, positions), f"{view.name}_events")
    for aggregate_type in view.aggregate_types:
        fold(run.connection, extent, aggregate_type)
        for item in view.tables:
            if item.aggregate_type == aggregate_type:
                left, right = _sides(run, item)
                outcomes.append(compare(run.connection, item.shape, left, right, run.context.limits))
    outcomes += [compare_sums(run, summed) for summed in view.sums]
    return findings(run, view.name, positions, outcomes, parked)


def _read(run: PodRun, cursor: adbc.Cursor, item: ViewTable) -> None:
    """Read this pod's rows of a table into a scratch table; rows of unknown pods are compared with the first pod."""
    known = sorted(run.context.pods)
    condition = "(present.pod = $1 or (($1 = $2) and present.pod <> all(string_to_array($3, ',')))"
    condition += f" or (present.pod is null and {_orphan(item)}))" if item.root else ")"
    looked_at, bound = _in_scope(run, item)
    if item.query is not None:
        query = item.query.format(condition=f"{condition} and {looked_at}")
    else:
        columns = ", ".join(f"present.{name}::{CASTS[item.shape.type_of(name)]}" for name in item.shape.names)
        source = f"read_models.{item.name} as present"
        if item.root:
            source = WITH_POD.format(source=source, root=item.root, id_column=item.id_column, looked_at=looked_at)
            looked_at = "true"
        query = f"select {columns} from {source} where {condition} and {looked_at}"
    load(run.connection, f"view_{item.name}", stream(cursor, query, (run.pod, known[0], ",".join(known), *bound)))


def _in_scope(run: PodRun, item: ViewTable) -> tuple[str, tuple[str, ...]]:
    """Return the condition that a row is in the run's scope, and the values that it binds after the first three."""
    if run.scope is None:
        return "true", ()
    return postgres_condition(run.scope, [f"present.{item.id_column}"], "text", first=4)


def _orphan(item: ViewTable) -> str:
    """Return the condition that a row without root belongs to this pod: its merchant's pod, else the first one."""
    same = (
        f"(select min(other.pod) from read_models.{item.root} as other where other.merchant_id = present.merchant_id)"
    )
    return f"coalesce({same}, $2) = $1"


def _parked(cursor: adbc.Cursor, projection: str, pod: str) -> list[ParkedAggregate]:
    cursor.execute(PARKED, (projection, pod))
    return [
        ParkedAggregate(key=str(key), events=int(events), parked_at=parked_at, error=str(error))
        for key, events, parked_at, error in cursor.fetchall()
    ]


def _find_moved(run: PodRun, view: View, positions: Mapping[str, Sequence[PartitionPosition]]) -> None:
    """Write which aggregates the view has from another pod by now; whose merchant never moved, it has from this one."""
    if not has_moved(run.connection):
        positions = {}
    for pod, reached in positions.items():
        if pod != run.pod:
            await_lake(run, pod, view.name, reached)
    write_elsewhere(run.connection, run.pod, positions)


def _sides(run: PodRun, item: ViewTable) -> tuple[str, str]:
    """Return the names of expected and actual rows, both without parked keys.

    Rows that the view has from another pod by now must be equal there.
    """
    moved = f"(select aggregate_id from {ELSEWHERE} where aggregate_type = '{item.aggregate_type}')"
    left, right = sides(run, item, f"view_{item.name}")
    return f"(select * from {left} where {AGGREGATE_ID} not in {moved})", right


def _pair(view: View) -> Pair:
    return Pair(
        name=f"lake_{view.name}",
        left="lake: the newest version of every aggregate, as of the view's positions",
        right=f"read models: {', '.join(shape.name for shape in view.shapes)}",
        description=view.compared,
        cannot_catch=(
            "Events that neither the lake nor the view has (the OLTP pairs find those); what the view notes of its "
            "positions besides the cut."
        ),
        copy=view.name,
        stage=Stage.OWN,
        shapes=view.shapes,
        compare=lambda run: _compare(run, view),
    )


READ_MODEL_PAIRS = tuple(_pair(view) for view in VIEWS)
