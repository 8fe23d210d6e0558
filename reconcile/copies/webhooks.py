"""What merchants' endpoints must be told, computed from the lake's events and the subscriptions, against the notes.

The lake holds exactly what the manifests name, which other pairs prove; a subscription names cuts. So of every endpoint
this finds, key by key, what was noted and need not be, and what had to be and is not. Each note that is there was
acknowledged by its endpoint, or it waits, or a person has skipped it, which the decisions say. Belongs here: that
comparison. Does not belong here: how notes are made (`derived/webhooks/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from contracts.errors import ComparisonError
from contracts.webhooks import TOLD_AGGREGATES
from reconcile.compare import compare
from reconcile.lake_side import RAW_EVENTS, PartitionPosition, at_positions, in_scope
from reconcile.oltp_side import snapshot_cursor, stream
from reconcile.own_positions import await_lake, findings, floor_of, wholly_if_set_back
from reconcile.pair import Findings, Pair, PodRun, Stage
from reconcile.parked import ParkedAggregate
from reconcile.scoping import postgres_condition
from reconcile.scratch import load, table
from reconcile.shapes import BIGINT, BOOLEAN, Column, Shape, names_aggregate, text
from reconcile.view_positions import known_positions

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

NAME = "webhooks"
ENDLESS = 9_223_372_036_854_775_807

DELIVERIES = Shape(
    name="webhook_deliveries",
    key=("endpoint_id", "event_id"),
    columns=(
        *text("merchant_id", "aggregate_type", "aggregate_id", "event_type"),
        Column(name="cut", type=BIGINT),
        Column(name="is_skipped", type=BOOLEAN),
    ),
    aggregate=names_aggregate,
)

WHOLE_NOTES_MAX, WHOLE_EVENTS_MAX = 20_000, 200_000
"""Up to so many notes and events of a pod every comparison of what changed is complete; above, a part is swept."""
FEW = "select count(*) as noted from (select from webhooks.deliveries where pod = $1 limit {most}) as few"
POSITIONS = "select partition::bigint, cut, chunk::bigint from webhooks.positions where pod = $1 order by 1"
SUBSCRIPTIONS = f"""
select s.endpoint_id, s.merchant_id, s.from_cut, coalesce(s.until_cut, {ENDLESS}) as until_cut,
       array_to_string(s.event_types, ',') as event_types, coalesce(k.pruned_cut, 0) as pruned_cut
from webhooks.subscriptions as s
inner join webhooks.endpoints as e on e.endpoint_id = s.endpoint_id and e.deleted_at is null
left join webhooks.kept as k on k.endpoint_id = s.endpoint_id and k.pod = s.pod
where s.pod = $1
"""
SKIPS = "select endpoint_id, event_id from webhooks.skips where pod = $1 and ended_at is null"
# What was withdrawn is no note: if it had to be told after all, it is missing.
NOTED = """
select d.endpoint_id, d.event_id, d.merchant_id, d.aggregate_type, d.aggregate_id, d.event_type, d.cut,
       d.state = 'skipped' as is_skipped
from webhooks.deliveries as d
left join webhooks.endpoints as e on e.endpoint_id = d.endpoint_id
left join webhooks.kept as k on k.endpoint_id = d.endpoint_id and k.pod = d.pod
where d.pod = $1 and d.state <> 'withdrawn' and e.deleted_at is null and d.cut > coalesce(k.pruned_cut, 0)
  and {looked_at}
"""
EXPECTED = """
insert into {target}
select distinct s.endpoint_id, e.event_id, e.merchant_id, e.aggregate_type, e.aggregate_id,
       regexp_replace(e.event_type, '_', '.') as event_type, e.cut,
       d.event_id is not null as is_skipped
from ({events}) as e
inner join {subscriptions} as s
    on s.merchant_id = e.merchant_id and e.cut between s.from_cut and s.until_cut and e.cut > s.pruned_cut
left join {skips} as d on d.endpoint_id = s.endpoint_id and d.event_id = e.event_id
where list_contains(string_split(s.event_types, ','), regexp_replace(e.event_type, '_', '.'))
"""


def _compare(run: PodRun) -> Findings:
    dsn = run.context.control_dsn
    if dsn is None:
        raise ComparisonError("The notes of webhooks cannot be looked at: this run was given no connection to them.")
    with snapshot_cursor(dsn) as cursor:
        rows = stream(cursor, POSITIONS, (run.pod,)).read_all().to_pylist()
        stored = [PartitionPosition(partition=row["partition"], cut=row["cut"], chunk=row["chunk"]) for row in rows]
        # Notes that were asked for again are not among what changed, either: their position was set back.
        run = _wholly_if_few(wholly_if_set_back(run, stored), cursor)
        load(run.connection, "webhook_subscriptions", stream(cursor, SUBSCRIPTIONS, (run.pod,)))
        load(run.connection, "webhook_skips", stream(cursor, SKIPS, (run.pod,)))
        looked_at, bound = _in_scope(run)
        load(run.connection, "webhook_notes", stream(cursor, NOTED.format(looked_at=looked_at), (run.pod, *bound)))
    if not _has_rows(run, "webhook_subscriptions") and not _has_rows(run, "webhook_notes"):
        # Nobody is to be told anything, and nobody was: no position could be wrong.
        return Findings(outcomes=(), is_whole=run.scope is None, cut=floor_of(stored) if stored else None)
    positions, beyond = known_positions(run, stored)
    await_lake(run, run.pod, NAME, positions)
    expected = _expected(run, positions)
    # What the lake has parked it will have later; its comparisons say so.
    parked = [one for one in run.parked() if one.aggregate_type in TOLD_AGGREGATES]
    left, right = (_without(run, name, parked) for name in (expected, table("webhook_notes")))
    outcome = compare(run.connection, DELIVERIES, left, right, run.context.limits)
    return findings(run, NAME, positions, [beyond, outcome], parked, is_own=False)


def _wholly_if_few(run: PodRun, cursor: adbc.Cursor) -> PodRun:
    """Return the run, without a scope while there is little to compare: no witness sees who writes the notes."""
    if run.scope is None or not run.scope.has_changes:
        return run
    (noted,) = stream(cursor, FEW.format(most=WHOLE_NOTES_MAX + 1), (run.pod,)).read_all()["noted"].to_pylist()
    if noted > WHOLE_NOTES_MAX:
        return run
    ((events,),) = run.connection.execute(f"select count(*) from {RAW_EVENTS} where pod = $1", [run.pod]).fetchall()
    return replace(run, scope=None) if events <= WHOLE_EVENTS_MAX else run


def _in_scope(run: PodRun) -> tuple[str, tuple[str, ...]]:
    """Return the condition that a note is in the run's scope, and the values that it binds after the first."""
    if run.scope is None:
        return "true", ()
    return postgres_condition(run.scope, ["d.aggregate_id"], "text", first=2)


def _has_rows(run: PodRun, name: str) -> bool:
    return bool(run.connection.execute(f"select exists (from {table(name)})").fetchall()[0][0])


def _without(run: PodRun, name: str, parked: Sequence[ParkedAggregate]) -> str:
    if not parked:
        return name
    target = table("webhooks_parked")
    run.connection.execute(f"create or replace table {target} (aggregate_type varchar, aggregate_id varchar)")
    for one in parked:
        run.connection.execute(f"insert into {target} values ($1, $2)", [one.aggregate_type, one.aggregate_id])
    return f"(select * from {name} where (aggregate_type, aggregate_id) not in (from {target}))"


def _expected(run: PodRun, positions: Sequence[PartitionPosition]) -> str:
    """Write what must be noted as of these positions; return the table's name."""
    target = table("expected_webhooks")
    columns = ", ".join(f"{name} {DELIVERIES.type_of(name)}" for name in DELIVERIES.names)
    run.connection.execute(f"create or replace table {target} ({columns})")
    extent = in_scope(run, at_positions(run.connection, run.pod, positions), f"{NAME}_events")
    names = "e.event_id, e.merchant_id, e.aggregate_type, e.aggregate_id, e.event_type, e.cut"
    for aggregate_type in TOLD_AGGREGATES:
        events, bound = extent.select(names, aggregate_type)
        sides = {name: table(f"webhook_{name}") for name in ("subscriptions", "skips")}
        query = EXPECTED.format(target=target, events=events, **sides)
        run.connection.execute(query, bound)
    return target


WEBHOOK_PAIR = Pair(
    name=f"lake_{NAME}",
    left="lake: every event that an endpoint is subscribed to by its cut, as of the notes' positions",
    right="control database: webhooks.deliveries, acknowledged, waiting or skipped",
    description="Of every endpoint, exactly the events that its merchant must be told of, each noted once.",
    cannot_catch=(
        "An acknowledgement that an endpoint gave and did not mean; a note that was marked as acknowledged by hand; a "
        "decision to skip that was written by hand; replayed events of cuts whose notes were pruned; events that the "
        "lake does not have (the OLTP pairs find those)."
    ),
    copy=NAME,
    stage=Stage.OWN,
    shapes=(DELIVERIES,),
    compare=_compare,
)
