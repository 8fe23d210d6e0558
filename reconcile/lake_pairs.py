"""OLTP <-> lake, one pair per aggregate type: the tables of a pod against the fold of the lake's events at the cut.

It finds events that were lost, duplicated or changed between the command and the lake, and writes that bypassed the
outbox.
"""

from __future__ import annotations

from functools import partial

from contracts.errors import LateError
from contracts.events import STATE_TYPES
from contracts.ownership import copy_named
from contracts.text import are, counted
from reconcile.compare import Outcome, compare
from reconcile.context import wait_for
from reconcile.entities import AGGREGATE_ID, entities_of
from reconcile.lake_side import at_cut, event_duplicates, fold, in_scope, parked_aggregates, right_name
from reconcile.oltp_side import left_name
from reconcile.pair import Findings, Pair, PodRun, Stage
from reconcile.parked import ParkedAggregate, overdue
from reconcile.scratch import table

PARKED = table("lake_parked")

CANNOT_CATCH = (
    "A command that wrote the same wrong value to its tables and into its event; intermediate versions with the right "
    "number and wrong content (only the newest version's content is compared); the order of an aggregate's parts."
)


def _compare(run: PodRun, aggregate_type: str) -> Findings:
    _await_elsewhere(run)
    fold(run.connection, in_scope(run, at_cut(run.pod, run.cut, run.moved)), aggregate_type)
    parked = [one for one in _parked(run) if one.aggregate_type == aggregate_type]
    ids = [one.aggregate_id for one in parked]
    run.connection.execute(f"create or replace table {PARKED} as select unnest($ids::VARCHAR[]) as id", {"ids": ids})
    limits = run.context.limits
    outcomes: list[Outcome] = [
        event_duplicates(run.connection, limits, aggregate_type),
        overdue(parked, run.context.now(), float(copy_named("lake").late_seconds_max), limits),
    ]
    for entity in entities_of(aggregate_type):
        left = run.in_scope(table(left_name(run.pod, entity.shape.name)), AGGREGATE_ID)
        right = table(right_name(entity))
        sides = (left, right) if not parked else (_unparked(left), _unparked(right))
        outcomes.append(compare(run.connection, entity.shape, *sides, limits))
        run.connection.execute(f"drop table {right}")
    number = len(parked)
    late = f"{counted(number, 'aggregate')} of {run.pod} {are(number)} parked on the way to the lake and left out."
    return Findings(outcomes=outcomes, late_aggregates=[one.key for one in parked], late_reason=late if parked else "")


def _await_elsewhere(run: PodRun) -> None:
    """Wait until the lake has what the log has of the pods from which merchants came; LateError if it does not come."""
    log_cut = run.context.log_cut
    if not run.moved.here or log_cut is None:
        return
    for pod in run.context.pods:
        wanted = log_cut(pod) if pod != run.pod else 0
        has_it = partial(_has_reached, run, pod, wanted)
        if not wait_for(run.context, has_it, float(copy_named("lake").late_seconds_max)):
            raise LateError(f"The lake has not reached cut {wanted} of {pod}, from where merchants came to {run.pod}.")


def _has_reached(run: PodRun, pod: str, cut: int) -> bool:
    return run.context.lake_cut(run.connection, pod) >= cut


def _parked(run: PodRun) -> list[ParkedAggregate]:
    """Return what is parked of the pod, and in other pods of the merchants that came from there."""
    elsewhere = [pod for pod in run.context.pods if pod != run.pod] if run.moved.here else []
    came = [one for pod in elsewhere for one in parked_aggregates(run.connection, pod)]
    return [*run.parked(), *(one for one in came if one.key.split("/", 1)[0] in run.moved.here)]


def _unparked(relation: str) -> str:
    return f"(select * from {relation} where {AGGREGATE_ID} not in (select id from {PARKED}))"


def _pair(aggregate_type: str) -> Pair:
    entities = entities_of(aggregate_type)
    names = ", ".join(entity.source if "(" not in entity.source else entity.shape.name for entity in entities)
    return Pair(
        name=f"oltp_lake.{aggregate_type}",
        left=f"OLTP: {names}",
        right=f"lake: the newest version of every {aggregate_type}, from raw.events up to the cut",
        description=(
            f"Every {aggregate_type} with all its fields and parts, and the number of its events (version n: n events)."
        ),
        cannot_catch=CANNOT_CATCH,
        copy="lake",
        stage=Stage.LAKE,
        shapes=tuple(entity.shape for entity in entities),
        compare=lambda run: _compare(run, aggregate_type),
        aggregate_types=(aggregate_type,),
    )


LAKE_PAIRS = tuple(_pair(aggregate_type) for aggregate_type in STATE_TYPES)
