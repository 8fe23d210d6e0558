"""What the warehouse leaves out: scopes with a defect, in which cuts, and which events this concerns.

Before a build runs, its new events are judged. An aggregate with a defect is left out from the cut of the defect on.
For an order, payment or refund the whole order is left out: order, payments and refunds are shown as of the cut before,
when they agreed with each other. So the journal stays balanced, and reports of earlier cuts do not change. The defect
ends with a later good event (after a missing version: with an event that a person requested to state the aggregate
again), or when the lake was repaired. The events in between are then included *at that cut*: reports of earlier cuts,
and so closed months, do not change; the first open month gets them.

Belongs here: the records in `lake.builds`, and updating them. Does not belong here: which aggregates have a defect
(`derived/defective.py`), reading events (`derived/judging.py`), leaving them out (dbt_project/macros/left_out.sql).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from contracts.errors import WarehouseError
from contracts.ids import aggregate_key
from derived.defective import NAMED_MAX, Omission, Scope, judge
from derived.defects import Defect
from derived.histories_as_of import LEFT_OUT_EVENTS, Connection, has_table
from derived.judging import Case, judged_window, read_cases, scopes_of_suspects, touched_scopes
from derived.lake_connection import LAKE, transaction
from derived.shared_lines import shared_lines
from derived.slipped import Windows, slipped_events, stated_again

LEFT_OUT = f"{LAKE}.builds.left_out"
TABLES = (
    # One row per scope and interval: left out from from_cut on, until before until_cut (null: still left out).
    f"""create table if not exists {LEFT_OUT} (
        pod varchar not null, merchant_id varchar not null, aggregate_type varchar not null,
        aggregate_id varchar not null, version bigint not null, defect varchar not null, scope_type varchar not null,
        scope_id varchar not null, currency varchar, amounts varchar not null, from_cut bigint not null,
        until_cut bigint, build_id varchar not null)""",
    # The scope's events from from_cut to until_cut. Models use them at into_cut (null: not yet; a bad event: never).
    f"""create table if not exists {LEFT_OUT_EVENTS} (
        pod varchar not null, scope_type varchar not null, scope_id varchar not null, aggregate_type varchar not null,
        aggregate_id varchar not null, event_id varchar not null, cut bigint not null, into_cut bigint,
        is_bad boolean not null)""",
)

NO_ROWS = (
    # A row that comes and goes, in two commits: else each query would ask for statistics that are not there, once a
    # column (`derived/lake_schema.py` says more).
    f"insert into {LEFT_OUT} values ('', '', '', '', 0, '', '', '', null, '', 0, null, '')",
    f"delete from {LEFT_OUT} where pod = ''",
    f"insert into {LEFT_OUT_EVENTS} values ('', '', '', '', '', '', 0, null, false)",
    f"delete from {LEFT_OUT_EVENTS} where pod = ''",
)

MAY_COME = (Defect.GAP.name, Defect.REFUNDS.name)
"""Defects that may end when another pod's events arrive: a missing version, or missing refunds or payments."""
LEFT_OUT_MAX = 10_000
"""Maximum number of scopes that one build may newly leave out; more means a fault of the models or the lake."""
SCOPES_AT_ONCE = 1_000

TOO_MANY = (
    "More than {limit:,} aggregates of {pod} ({count:,} are suspect) have a defect, among them {names}: so many at "
    "once are no damage of single ones, so nothing was built. Look at the lake's events and at the models before "
    "anything else. Those that are stated again, or mended in the lake, no longer count."
)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One event of a scope that is or was left out."""

    scope: Scope
    aggregate: Scope
    event_id: str
    cut: int
    into_cut: int | None
    is_bad: bool


def leaves_out_events(connection: Connection) -> bool:
    """Return whether any events are or were left out; if not, builds do not need to look for them."""
    ((found,),) = connection.execute(f"select exists (from {LEFT_OUT_EVENTS})").fetchall()
    return bool(found)


def left_out(connection: Connection, cuts: Mapping[str, int]) -> list[Omission]:
    """Return what the warehouse leaves out as of `cuts` (pod -> cut): what a report at that vector lacks."""
    if not has_table(connection, "left_out"):
        return []
    return [
        one
        for pod, cut in sorted(cuts.items())
        for one in _recorded(connection, pod)
        if one.from_cut <= cut and (one.until_cut is None or one.until_cut > cut)
    ]


def left_out_aggregates(connection: Connection, pod: str, cut: int) -> dict[str, Omission]:
    """Return aggregate key -> omission, for all aggregates that are left out as of a cut, alone or with others."""
    found = {one.scope: one for one in left_out(connection, {pod: cut})}
    members = _members(connection, pod, found) if found else {}
    return {
        aggregate_key(one.merchant_id, *aggregate): one
        for scope, one in found.items()
        for aggregate in {*members[scope], (one.aggregate_type, one.aggregate_id)}
    }


def leave_out(
    connection: Connection,
    pod: str,
    since: int,
    cut: int,
    *,
    shown_cut: int,
    build_id: str,
    others: Windows | None = None,
    elsewhere: Windows | None = None,
) -> list[Omission]:
    """Judge the events of `pod` after `since` up to `cut`, and record what the build that adds them leaves out.

    `shown_cut`: the cut up to which a complete build has shown the pod. `others`: pods that this build judged before,
    with the same two cuts. `elsewhere`: all its other pods, with the cuts that it is built at. Writes in a transaction
    of its own; the caller holds the build lock. Returns what is left out at `cut`. Raises WarehouseError if there are
    more defects than damage of single aggregates can explain.
    """
    recorded = _recorded(connection, pod)
    elsewhere = elsewhere or {}
    claims = {Defect.SHARED: shared_lines(connection, pod, since, cut, others=others or {})}
    claims |= {Defect.SLIPPED: slipped_events(connection, pod, since, cut, elsewhere)}
    settled = stated_again(connection, claims[Defect.SLIPPED], elsewhere)
    bad = {(claim.cut, claim.event_id): defect for defect, found in claims.items() for claim in found}
    anew: list[Scope] = []
    with judged_window(connection, pod, since, cut):
        found = scopes_of_suspects(connection, pod, since)
        found |= {claim.scope for some in claims.values() for claim in some if claim.cut > since}
        again = _to_judge_again(connection, pod, recorded, found | settled, since)
        if elsewhere and cut > since:
            again = _waiting_for_others(recorded, since) | again
        starts = dict.fromkeys(found, since) | again
        known = _known_aggregates(connection, pod, recorded, starts)
        with transaction(connection, "build") if starts else nullcontext():
            for some in _some_at_once(starts):
                reached = {name: window[1] for name, window in elsewhere.items()}
                cases = _with_claims(read_cases(connection, pod, some, known, cut=cut, elsewhere=reached), bad)
                changed = [_changed(pod, case, recorded, cut, shown_cut, settled) for case in cases]
                anew += [one.scope for one in changed if one.scope not in again and one.is_left_out]
                _refuse_too_many(pod, anew, len(starts))
                _write(connection, pod, changed, build_id)
    if starts:
        recorded = _recorded(connection, pod)
    return [one for one in recorded if one.from_cut <= cut and (one.until_cut is None or one.until_cut > cut)]


def _with_claims(cases: Sequence[Case], bad: Mapping[tuple[int, str], Defect]) -> list[Case]:
    """Return the cases with these events (cut, id) marked as defective, if they have no other defect."""
    return [
        replace(
            case,
            events=[
                replace(event, defect=bad[event.cut, event.event_id].name)
                if event.defect is None and (event.cut, event.event_id) in bad
                else event
                for event in case.events
            ],
        )
        for case in cases
    ]


@dataclass(frozen=True, kw_only=True)
class _Changed:
    """The new records of a scope, after the cut `start`; earlier records stay."""

    scope: Scope
    start: int
    records: Sequence[Omission]
    rows: Sequence[_Row]

    @property
    def is_left_out(self) -> bool:
        """Whether the scope is left out at the cut up to which it was judged."""
        return any(one.until_cut is None for one in self.records)


def _some_at_once(starts: Mapping[Scope, int]) -> Iterator[dict[Scope, int]]:
    """Yield the scopes in portions, to bound the memory for what is read of them."""
    scopes = sorted(starts)
    for first in range(0, len(scopes), SCOPES_AT_ONCE):
        yield {scope: starts[scope] for scope in scopes[first : first + SCOPES_AT_ONCE]}


def _to_judge_again(
    connection: Connection, pod: str, recorded: Sequence[Omission], found: set[Scope], since: int
) -> dict[Scope, int]:
    """Return scope -> cut after which to judge it: scopes left out after `since` with new events, or perhaps over.

    If a build starts while a scope is left out, the stored histories lack its later events, so it is judged from
    before.
    """
    waiting = [one for one in recorded if one.until_cut is None or one.until_cut > since]
    if not waiting:
        return {}
    scopes = {one.scope for one in waiting}
    touched = found | touched_scopes(connection, pod, scopes, _members(connection, pod, scopes), since)
    starts: dict[Scope, int] = {}
    for one in waiting:
        if one.scope in touched or (one.until_cut is None and one.from_cut > since):
            starts[one.scope] = min(starts.get(one.scope, since), one.from_cut - 1)
    return starts


def _waiting_for_others(recorded: Sequence[Omission], since: int) -> dict[Scope, int]:
    """Return scope -> cut after which to judge it, for scopes that wait for a version from another pod."""
    return {
        one.scope: min(since, one.from_cut - 1) for one in recorded if one.until_cut is None and one.defect in MAY_COME
    }


def _changed(
    pod: str, case: Case, recorded: Sequence[Omission], cut: int, shown_cut: int, settled: set[Scope]
) -> _Changed:
    """Judge one scope, and return its new records. `settled`: stated again in the pod where the merchant lives now."""
    judgement = judge(pod, case.scope, case.events, case.before)
    is_settled = case.scope in settled
    now = {
        one.from_cut: replace(one, until_cut=cut)
        if is_settled and one.until_cut is None and one.defect == Defect.SLIPPED.name
        else one
        for one in judgement.left_out
    }
    records = []
    for one in recorded:
        if one.scope != case.scope or one.from_cut <= case.start or one.from_cut in now:
            continue
        if one.until_cut is not None:
            records.append(one)
        elif one.from_cut <= shown_cut:
            # The lake was repaired: include the events since then at this cut, so that existing reports do not change.
            records.append(replace(one, until_cut=cut))
    records = sorted([*records, *now.values()], key=lambda one: one.from_cut)
    rows = [
        _Row(
            scope=case.scope,
            aggregate=event.aggregate,
            event_id=event.event_id,
            cut=event.cut,
            into_cut=None if is_bad else record.until_cut,
            is_bad=is_bad,
        )
        for event in case.events
        for is_bad in [(event.cut, event.event_id) in judgement.bad]
        for record in [_record_at(records, event.cut)]
        if record is not None
    ]
    return _Changed(scope=case.scope, start=case.start, records=records, rows=rows)


def _record_at(records: Sequence[Omission], cut: int) -> Omission | None:
    """Return the record that an event of a cut belongs to; the event that ended a record belongs to it, too."""
    return next(
        (one for one in records if one.from_cut <= cut and (one.until_cut is None or cut <= one.until_cut)), None
    )


def _refuse_too_many(pod: str, scopes: Sequence[Scope], judged_count: int) -> None:
    if len(scopes) > LEFT_OUT_MAX:
        names = ", ".join("/".join(scope) for scope in scopes[:NAMED_MAX])
        raise WarehouseError(TOO_MANY.format(limit=LEFT_OUT_MAX, count=judged_count, pod=pod, names=names))


def _recorded(connection: Connection, pod: str) -> list[Omission]:
    names = list(Omission.__dataclass_fields__)
    rows = connection.execute(
        f"select {', '.join(names)} from {LEFT_OUT} where pod = ? order by from_cut, scope_type, scope_id", [pod]
    ).fetchall()
    values: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
    return [Omission(**{**value, "amounts": json.loads(value["amounts"])}) for value in values]


def _members(connection: Connection, pod: str, scopes: Iterable[Scope]) -> dict[Scope, set[Scope]]:
    """Return scope -> its aggregates, as far as their events have been left out."""
    wanted = set(scopes)
    rows = connection.execute(
        f"select distinct scope_type, scope_id, aggregate_type, aggregate_id from {LEFT_OUT_EVENTS} where pod = ?",
        [pod],
    ).fetchall()
    found: dict[Scope, set[Scope]] = {scope: {scope} for scope in wanted}
    for scope_type, scope_id, aggregate_type, aggregate_id in rows:
        if (scope_type, scope_id) in wanted:
            found[scope_type, scope_id].add((aggregate_type, aggregate_id))
    return found


def _known_aggregates(
    connection: Connection, pod: str, recorded: Sequence[Omission], scopes: Iterable[Scope]
) -> dict[Scope, set[Scope]]:
    found = _members(connection, pod, scopes)
    for one in recorded:
        if one.scope in found:
            found[one.scope].add((one.aggregate_type, one.aggregate_id))
    return found


def take_back(connection: Connection, pod: str, cut: int) -> None:
    """Delete what was recorded after `cut` of `pod`, because its events are retracted; in the caller's transaction."""
    for table, first in ((LEFT_OUT, "from_cut"), (LEFT_OUT_EVENTS, "cut")):
        connection.execute(f"delete from {table} where pod = ? and {first} > ?", [pod, cut])
    for table, last in ((LEFT_OUT, "until_cut"), (LEFT_OUT_EVENTS, "into_cut")):
        connection.execute(f"update {table} set {last} = null where pod = ? and {last} > ?", [pod, cut])


def _write(connection: Connection, pod: str, changed: Sequence[_Changed], build_id: str) -> None:
    scopes = {
        "types": [one.scope[0] for one in changed],
        "ids": [one.scope[1] for one in changed],
        "starts": [one.start for one in changed],
    }
    for table, first in ((LEFT_OUT, "from_cut"), (LEFT_OUT_EVENTS, "cut")):
        connection.execute(
            f"""delete from {table} as stored using (
                    select unnest($types::VARCHAR[]) as scope_type, unnest($ids::VARCHAR[]) as scope_id,
                           unnest($starts::BIGINT[]) as start_cut) as judged
                where stored.pod = $pod and stored.scope_type = judged.scope_type
                    and stored.scope_id = judged.scope_id and stored.{first} > judged.start_cut""",
            scopes | {"pod": pod},
        )
    _insert(connection, LEFT_OUT, [_values(one, build_id) for each in changed for one in each.records])
    _insert(
        connection,
        LEFT_OUT_EVENTS,
        [
            (pod, *row.scope, *row.aggregate, row.event_id, row.cut, row.into_cut, row.is_bad)
            for each in changed
            for row in each.rows
        ],
    )


def _insert(connection: Connection, table: str, rows: Sequence[Sequence[object]]) -> None:
    if rows:
        places = f"({', '.join('?' for _ in rows[0])})"
        for start in range(0, len(rows), 500):
            some = rows[start : start + 500]
            connection.execute(
                f"insert into {table} values {', '.join(places for _ in some)}",
                [value for row in some for value in row],
            )


def _values(one: Omission, build_id: str) -> tuple[object, ...]:
    values = [getattr(one, name) for name in Omission.__dataclass_fields__]
    values[list(Omission.__dataclass_fields__).index("amounts")] = json.dumps(dict(one.amounts))
    return (*values, build_id)
