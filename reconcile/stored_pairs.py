"""lake <-> warehouse: how a stored table of the warehouse is compared with what the lake's events make of it.

Marts show of a stored table what stands at a cut; reports of earlier cuts, closed months and the next build read the
rest. So the stored rows are compared themselves. Belongs here: what these pairs share. Does not belong here: which
versions there are (`reconcile/versions.py`), what a table must hold (`reconcile/history_pairs.py`,
`reconcile/journal_pair.py`, `reconcile/tax_movement_pair.py`), marts (`reconcile/finance_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from contracts.ownership import WAREHOUSE
from reconcile.compare import compare
from reconcile.pair import Findings, Pair, PodRun, Stage
from reconcile.scratch import table
from reconcile.shapes import Shape
from reconcile.versions import VERSIONS, Stand, is_still_newest, stand_of, write_versions

FAMILY = "lake_warehouse"
CANNOT_CATCH = (
    "What both the lake and the warehouse have wrong; movements of tax of an event that the lake does not have, until "
    "a comparison is complete; what a build that has not ended has written."
)
STORED, EXPECTED = table("stored_rows"), table("expected_rows")
BOOKED_EVENTS = table("booked_events")
"""The scratch table of (event_id, aggregate_type, aggregate_id) that `write_booked` leaves."""


def compare_stored(run: PodRun, shape: Shape, write: Callable[[PodRun], None]) -> Findings:
    """Compare a stored table as of the newest complete build; `write` writes EXPECTED, and then STORED as it is."""
    stand = stand_of(run)
    cut = stand.cuts[run.pod]
    # A warehouse that was set back has no newer event of what it lost, so the scope would miss it.
    is_whole = run.scope is None or cut < run.scope.since_cut
    run = replace(run, scope=None) if is_whole else run
    write(run)
    # Asked again, because a build may have begun while the rows were read.
    right = STORED if is_still_newest(run, stand) else as_of(stand, cut, shape)
    outcome = compare(run.connection, shape, EXPECTED, right, run.context.limits)
    return Findings(outcomes=[outcome], is_whole=is_whole, cut=cut, cut_vector={run.pod: str(cut)})


def as_of(stand: Stand, cut: int, shape: Shape) -> str:
    """Return the stored rows as they were at the newest complete build, at this cut of the pod."""
    if "valid_to_cut" not in shape.names:
        return f"(select * from {STORED} where cut <= {cut:d})"
    # Builds write both parts of an end. One part alone is no end that a later build wrote: it stays to be seen.
    is_ended = f"{stand.has_reached('valid_to_pod', 'valid_to_cut')} or valid_to_pod is null or valid_to_cut is null"
    ends = ", ".join(f"case when {is_ended} then {name} end as {name}" for name in ("valid_to_pod", "valid_to_cut"))
    return f"(select * replace ({ends}) from {STORED} where valid_from_cut <= {cut:d})"


def stored_pair(
    name: str, shape: Shape, description: str, compare_rows: Callable[[PodRun], Findings], *, whose: str
) -> Pair:
    """Return the pair that compares the stored table of this shape with the lake's events.

    `whose`: the table's column with the aggregate's id, or `event_id` when a row names only its event.
    """
    stored = f"intermediate.{shape.name}"
    return Pair(
        name=f"{FAMILY}.{name}",
        left="lake: raw.events up to the cuts of the newest complete build, version by version",
        right=f"warehouse: {stored}",
        description=description,
        cannot_catch=CANNOT_CATCH,
        copy=WAREHOUSE.name,
        stage=Stage.OWN,
        shapes=(shape,),
        compare=compare_rows,
        stored_tables={stored: whose},
    )


def write_booked(run: PodRun, queries: Mapping[str, str]) -> None:
    """Write EXPECTED by a query over the versions of each of these types, and whose events they are."""
    for place, (aggregate_type, query) in enumerate(queries.items()):
        whose = f"select event_id, '{aggregate_type}' as aggregate_type, aggregate_id from {VERSIONS} where pod = $pod"
        for part in write_versions(run, aggregate_type):
            for target, rows in ((EXPECTED, query), (BOOKED_EVENTS, whose)):
                into = f"insert into {target} by name" if place or part else f"create or replace table {target} as"
                run.connection.execute(f"{into} {rows}", {"pod": run.pod})
