"""Compares the sums that a view keeps with the rows that they add up, both read in one snapshot of the view.

The rows themselves are compared with the lake, key by key. If the rows are right, the sums over them are right. So
parked aggregates and the view's lag do not matter here. Belongs here: reading both sides. Does not belong here: the
rows (`reconcile/read_model_pairs.py`), which sums there are (`reconcile/copies/`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from contracts.scope import Scope
from reconcile.compare import Outcome, compare
from reconcile.oltp_side import stream
from reconcile.pair import PodRun
from reconcile.scoping import postgres_condition
from reconcile.scratch import load, table
from reconcile.shapes import HUGEINT
from reconcile.view_tables import SumPart, ViewSum

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

# A group belongs to the pods of its rows; without a row of a known pod, to the first pod. A group's sum may be missing,
# and there may be a sum without rows, so we join both fully.
BOTH = """
    with {looked_at}
    parts as ({parts}),
    added as (
        select {group}, {identity} as added_id, bool_or(pod = $1) as is_here,
               coalesce(bool_or(pod = any(string_to_array($3, ','))), false) as is_somewhere, {added}
        from parts group by {group}
    ),
    kept as (select {group}, {id_column} as kept_id, {kept} from {sums} as kept)
    select {group}, added_id, kept_id, {both} from added full join kept using ({group})
    where coalesce(is_here, false) or ($1 = $2 and not coalesce(is_somewhere, false))"""

# With a scope: the groups of changed aggregates, and the groups whose own id is in the scope. There is an index for
# each of these conditions, so that nothing else is read.
LOOKED_AT = """
    looked_at as (
        {of_parts}
        union
        select {group} from read_models.{name} where {of_sums}
    ),"""
OF_PART = "select {group} from read_models.{part} where {of_rows} or {of_groups}"
# The rows of these groups only, read group by group: without `offset 0` PostgreSQL may instead read the whole table.
CHOSEN = """(
    select chosen.* from looked_at cross join lateral (
        select * from read_models.{table} as row where {same} offset 0
    ) as chosen
)"""
SLASHED = " || '/' || "


def read_sums(run: PodRun, cursor: adbc.Cursor, item: ViewSum) -> None:
    """Read the view's sums, and the sums computed from its rows, into one scratch table."""
    known, measures = sorted(run.context.pods), _measures(item)
    looked_at, bound = ("", ()) if run.scope is None else _looked_at(item, run.scope)
    is_whole = run.scope is None
    query = BOTH.format(
        sums=_relation(item, item.name, is_whole=is_whole),
        id_column=item.id_column,
        group=", ".join(item.group),
        identity=_identity(item),
        looked_at=looked_at,
        parts=" union all ".join(_rows(item, part, is_whole=is_whole) for part in item.parts),
        added=", ".join(f"sum({one})::text as added_{one}" for one in measures),
        kept=", ".join(f"{one}::text as kept_{one}" for one in measures),
        both=", ".join(f"added_{one}, kept_{one}" for one in measures),
    )
    numbers = [f"{side}_{one}::{HUGEINT} as {side}_{one}" for one in measures for side in ("added", "kept")]
    rows = stream(cursor, query, (run.pod, known[0], ",".join(known), *bound))
    load(run.connection, _scratch(item), rows, ", ".join((*item.group, "added_id", "kept_id", *numbers)))


def compare_sums(run: PodRun, item: ViewSum) -> Outcome:
    """Compare the sums computed from the rows (left) with the view's sums (right)."""
    added, kept = (_side(item, side) for side in ("added", "kept"))
    return compare(run.connection, item.shape, added, kept, run.context.limits)


def _measures(item: ViewSum) -> list[str]:
    return [column.name for column in item.shape.columns if column.type == HUGEINT]


def _identity(item: ViewSum) -> str:
    """Return the id of a group, computed from its columns; written as in the index of each part."""
    return f"(md5({SLASHED.join(item.group)})::uuid::text)"


def _scratch(item: ViewSum) -> str:
    return f"sums_{item.name}"


def _side(item: ViewSum, side: str) -> str:
    columns = (*item.group, f"{side}_id as {item.id_column}", *(f"{side}_{one} as {one}" for one in _measures(item)))
    return f"(select {', '.join(columns)} from {table(_scratch(item))} where {side}_id is not null)"


def _relation(item: ViewSum, name: str, *, is_whole: bool) -> str:
    """Return a table's rows as a relation: all, or those of the groups in `looked_at`."""
    if is_whole:
        return f"read_models.{name}"
    return CHOSEN.format(table=name, same=" and ".join(f"row.{one} = looked_at.{one}" for one in item.group))


def _rows(item: ViewSum, part: SumPart, *, is_whole: bool) -> str:
    measures = ", ".join(f"{part.measures.get(one, '0')} as {one}" for one in _measures(item))
    # Of the root only the pod, because its other columns may have the names of the part's.
    pods = f"(select merchant_id, {part.id_column}, pod from read_models.{part.root})"
    root = f"left join {pods} as root using (merchant_id, {part.id_column})" if part.root else ""
    relation = _relation(item, part.name, is_whole=is_whole)
    return f"select {', '.join(item.group)}, pod, {measures} from {relation} as part {root}"


def _looked_at(item: ViewSum, scope: Scope) -> tuple[str, tuple[str, ...]]:
    """Return the query of the groups that are compared, and the values that it binds after the pods."""
    changed = replace(scope, ranges=())
    of_rows, ids = postgres_condition(changed, ["{id}"], "text", first=4)
    named, of_ids = postgres_condition(scope, ["{id}"], "text", first=4 + len(ids))
    group = ", ".join(item.group)
    of_groups, of_sums = (named.replace("{id}", one) for one in (_identity(item), item.id_column))
    by_id = {part.name: of_rows.replace("{id}", part.id_column) for part in item.parts}
    of_parts = [
        OF_PART.format(group=group, part=name, of_rows=condition, of_groups=of_groups)
        for name, condition in by_id.items()
    ]
    text = LOOKED_AT.format(of_parts=" union ".join(of_parts), group=group, name=item.name, of_sums=of_sums)
    return text, (*ids, *of_ids)
