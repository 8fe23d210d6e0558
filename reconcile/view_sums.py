"""Compares the sums that a view keeps with the rows that they add up, both read in one snapshot of the view.

The rows themselves are compared with the lake, key by key. If the rows are right, the sums over them are right. So
parked aggregates and the view's lag do not matter here. Belongs here: reading both sides. Does not belong here: the
rows (`reconcile/read_model_pairs.py`), which sums there are (`reconcile/copies/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reconcile.compare import Outcome, compare
from reconcile.oltp_side import stream
from reconcile.pair import PodRun
from reconcile.scoping import postgres_condition
from reconcile.scratch import load, table
from reconcile.shapes import HUGEINT
from reconcile.view_tables import ViewSum

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

# A group belongs to the pods of its rows; without a row of a known pod, to the first pod. The sum of a group may be
# missing, so we take the groups from the rows, and add the groups that only the sums have.
LOOKED_AT = """
    parts as materialized ({parts}),
    groups as (
        select {group}, {identity} as group_id, bool_or(pod = $1) as is_here,
               coalesce(bool_or(pod = any(string_to_array($3, ','))), false) as is_somewhere,
               bool_or({of_rows}) as is_changed
        from parts group by {group}
    ),
    looked_at as (
        select {group} from groups
        where (is_here or ($1 = $2 and not is_somewhere)) and (is_changed or {of_groups})
        union all
        select {group} from read_models.{name} as present
        where $1 = $2 and {of_sums} and not exists (select from groups where {same})
    )"""
ADDED_UP = """
    with {looked_at}
    select {identity} as {id_column}, {group}, {added} from parts join looked_at using ({group}) group by {group}"""
KEPT = "with {looked_at} select {id_column}, {group}, {kept} from read_models.{name} join looked_at using ({group})"


def read_sums(run: PodRun, cursor: adbc.Cursor, item: ViewSum) -> None:
    """Read the view's sums, and the sums computed from its rows, into scratch tables."""
    known = sorted(run.context.pods)
    identity = " || '/' || ".join(item.group)
    measures = [column.name for column in item.shape.columns if column.type == HUGEINT]
    names = {
        "name": item.name,
        "id_column": item.id_column,
        "group": ", ".join(item.group),
        "identity": f"md5({identity})::uuid::text",
    }
    looked_at, bound = _looked_at(run, item, names)
    added = ", ".join(f"sum({one})::text as {one}" for one in measures)
    kept = ", ".join(f"{one}::text as {one}" for one in measures)
    select = ", ".join(f"{one}::{HUGEINT} as {one}" if one in measures else one for one in item.shape.names)
    for side, query in (("added", ADDED_UP), ("kept", KEPT)):
        text = query.format(**names, looked_at=looked_at, added=added, kept=kept)
        rows = stream(cursor, text, (run.pod, known[0], ",".join(known), *bound))
        load(run.connection, f"{side}_{item.name}", rows, select)


def compare_sums(run: PodRun, item: ViewSum) -> Outcome:
    """Compare the two scratch tables: the sums computed from the rows (left), and the view's sums (right)."""
    added, kept = (table(f"{side}_{item.name}") for side in ("added", "kept"))
    return compare(run.connection, item.shape, added, kept, run.context.limits)


def _looked_at(run: PodRun, item: ViewSum, names: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the query of the groups that are compared, and the values that it binds after the pods.

    With a scope these are the groups of changed aggregates, and the groups whose own id is in the scope.
    """
    of_rows = of_groups = of_sums = "true"
    bound: tuple[str, ...] = ()
    if run.scope is not None:
        changed = replace(run.scope, ranges=())
        of_rows, ids = postgres_condition(changed, ["aggregate_id"], "text", first=4)
        named, of_ids = postgres_condition(run.scope, ["{id}"], "text", first=4 + len(ids))
        of_groups, of_sums = (named.replace("{id}", one) for one in ("group_id", f"present.{item.id_column}"))
        bound = (*ids, *of_ids)
    same = " and ".join(f"groups.{name} = present.{name}" for name in item.group)
    conditions = {"of_rows": of_rows, "of_groups": of_groups, "of_sums": of_sums, "same": same}
    return LOOKED_AT.format(parts=item.parts, **names, **conditions), bound
