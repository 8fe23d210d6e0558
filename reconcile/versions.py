"""Every version of every aggregate as the warehouse must store it: folded from the lake's events.

The warehouse stores what was so at each cut; so does the comparison, with SQL of its own: which events count and at
which cut (a build may leave some out, and take them in later), which version follows which, and the state of each. All
is as of the cuts of the newest complete build, because a running one commits table by table. Belongs here: these
versions and cuts. Does not belong here: what is stored of them (`reconcile/history_pairs.py`,
`reconcile/journal_pair.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import duckdb

from contracts.errors import LateError
from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.events.upcasting import newest_sql
from reconcile.entities import entities_of
from reconcile.lake_side import PART_BYTES, RAW_EVENTS, decoded, decoded_value, structure
from reconcile.moved import has_moved
from reconcile.pair import PodRun
from reconcile.scratch import has_table, table
from reconcile.shapes import quoted

VERSIONS = "versions"
"""Name of the table with the states of one part; it is small, so it is in memory."""
PLACES = table("version_places")
EVENTS = table("version_events")

BUILDS = """
with complete as (
    select max(build_number) as number from lake.builds.cut_vectors semi join lake.builds.completions using (build_id)
)
select v.pod, v.cut, v.build_number,
    v.build_number = (select max(build_number) from lake.builds.cut_vectors) and v.cut > v.since_cut as is_newest
from lake.builds.cut_vectors as v join complete on complete.number = v.build_number
"""
NEWEST = "select max(build_number) from lake.builds.cut_vectors"
# An event is left out while one of its omissions has not ended; then it counts from the cut on that ended the last one.
LEFT_OUT = """
select o.pod, o.event_id, o.cut,
    case when bool_and(coalesce(o.into_cut <= b.cut, false)) then max(o.into_cut) end as into_cut
from lake.builds.left_out_events as o join {built} as b on b.pod = o.pod
group by o.pod, o.event_id, o.cut
"""
MOVED = f"merchant_id in (select merchant_id from {RAW_EVENTS} where directory_epoch > {FIRST_DIRECTORY_EPOCH})"

# Windows keep their rows in memory, so they have no payloads.
PLACED = """
create or replace table {places} as
with event as (
    select e.pod, e.event_id, e.merchant_id, e.aggregate_id, e.directory_epoch, e.aggregate_version, e.bytes,
        case when o.event_id is null then e.cut else o.into_cut end as valid_from_cut
    from {events} as e
    join {built} as b on b.pod = e.pod
    left join {left_out} as o on o.pod = e.pod and o.event_id = e.event_id and o.cut = e.cut
    where case when o.event_id is null then e.cut else o.into_cut end <= b.cut
),
single as (select distinct on (pod, event_id, valid_from_cut) * from event),
sized as (
    select aggregate_id, sum(sum(bytes)) over (rows between unbounded preceding and current row) // {part_bytes} as part
    from single group by aggregate_id
)
select s.pod, s.event_id, s.valid_from_cut, sized.part,
    lead(s.pod) over following as valid_to_pod, lead(s.valid_from_cut) over following as valid_to_cut
from single as s join sized using (aggregate_id)
window following as (
    partition by s.merchant_id, s.aggregate_id order by s.directory_epoch, s.aggregate_version
)
"""
STATES = """
create or replace temp table {states} as
select distinct on (p.pod, p.event_id, p.valid_from_cut)
    p.pod, p.valid_from_cut, p.valid_to_pod, p.valid_to_cut, e.event_id, e.aggregate_id, e.event_type, e.occurred_at,
    e.recorded_at, e.directory_epoch, from_json(e.payload, $structure).state as state
from {events} as e join {places} as p on p.pod = e.pod and p.event_id = e.event_id
where p.part = $part
"""


@dataclass(frozen=True, kw_only=True)
class Stand:
    """The newest complete build: pod -> cut, and whether no other build has begun since."""

    cuts: Mapping[str, int]
    number: int
    is_newest: bool
    """If so, no row and no end of a version lies beyond the cuts; else a build may have written some already."""

    def has_reached(self, pod: str, cut: str) -> str:
        """Return the condition that a cut (expressions of its pod and number) is not beyond this build's."""
        reached = (f"({pod} = '{name}' and {cut} <= {value:d})" for name, value in self.cuts.items())
        return f"({' or '.join(reached)})"


def _name(run: PodRun, what: str) -> str:
    return table(f"{what}_{run.pod}")


def stand_of(run: PodRun) -> Stand:
    """Return where the warehouse stood when the run first asked; the run compares all that it stores as of that build.

    LateError when the warehouse was never built in this pod.
    """
    connection, built = run.connection, _name(run, "built")
    if not has_table(connection, f"built_{run.pod}"):
        try:
            connection.execute(f"create table {built} as {BUILDS}")
        except duckdb.CatalogException:
            raise LateError("The warehouse has not been built yet.") from None
        connection.execute(f"create table {_name(run, 'left_out')} as {LEFT_OUT.format(built=built)}")
    rows = connection.execute(f"select pod, cut, build_number, is_newest from {built}").fetchall()
    cuts = {str(pod): int(cut) for pod, cut, _, _ in rows}
    if run.pod not in cuts:
        raise LateError(f"The warehouse has not been built yet with events of {run.pod}.")
    return Stand(cuts=cuts, number=int(rows[0][2]), is_newest=any(is_newest for *_, is_newest in rows))


def is_still_newest(run: PodRun, stand: Stand) -> bool:
    """Return whether no other build has begun by now."""
    return stand.is_newest and run.connection.execute(NEWEST).fetchall() == [(stand.number,)]


def write_places(run: PodRun, aggregate_type: str) -> list[int]:
    """Write which event is a version from which cut to which; return the numbers of the parts to decode."""
    newest = newest_sql(aggregate_type, "payload", "schema_version")
    run.connection.execute(
        f"""create or replace table {EVENTS} as
            select pod, cut, event_id, merchant_id, aggregate_id, aggregate_version, directory_epoch, event_type,
                   occurred_at, recorded_at, {newest} as payload, strlen(payload) as bytes
            from {_events(run)} as e where aggregate_type = $aggregate_type""",
        {"aggregate_type": aggregate_type},
    )
    names = {"events": EVENTS, "built": _name(run, "built"), "left_out": _name(run, "left_out")}
    run.connection.execute(PLACED.format(places=PLACES, part_bytes=PART_BYTES, **names))
    rows = run.connection.execute(f"select distinct part from {PLACES} order by part").fetchall()
    return [int(row[0]) for row in rows] or [0]


def _events(run: PodRun) -> str:
    """Return the relation of the events in the scope: of the pod, and all of merchants that have ever moved."""
    mine = f"pod = '{run.pod}'"
    condition = f"({mine} or {MOVED})" if has_moved(run.connection) else mine
    events = f"(select * from {RAW_EVENTS} where {condition})"
    if run.scope is None:
        return events
    # The pairs of one run read the lake once.
    if not has_table(run.connection, f"version_sources_{run.pod}"):
        scoped = run.in_scope(events, "aggregate_id")
        run.connection.execute(f"create table {_name(run, 'version_sources')} as from {scoped}")
    return _name(run, "version_sources")


def write_states(run: PodRun, aggregate_type: str, part: int) -> None:
    """Write the versions of one part with their decoded states into the table VERSIONS."""
    entities = entities_of(aggregate_type)
    root, *lists = entities
    columns = [decoded("state", column) for column in root.fields]
    for entity in lists:
        assert entity.field is not None
        parts = ", ".join(f"{quoted(column.name)} := {decoded_value('one', column)}" for column in entity.fields)
        # A payload from before a list was added lacks it; then it is empty.
        name = quoted(entity.field)
        columns.append(f"list_transform(coalesce(state.{name}, []), lambda one: struct_pack({parts})) as {name}")
    run.connection.execute(
        STATES.format(states="decoded_versions", events=EVENTS, places=PLACES),
        {"structure": json.dumps({"state": structure(entities)}), "part": part},
    )
    run.connection.execute(
        f"""create or replace temp table {VERSIONS} as
            select * exclude (state), {", ".join(columns)} from decoded_versions"""
    )
    run.connection.execute("drop table decoded_versions")


def write_versions(run: PodRun, aggregate_type: str) -> Iterator[int]:
    """Write the versions of an aggregate type part by part; yield 0, 1, ... while VERSIONS holds a part."""
    for number, part in enumerate(write_places(run, aggregate_type)):
        write_states(run, aggregate_type, part)
        yield number
    run.connection.execute(f"drop table {VERSIONS}")
