"""What the warehouse leaves out: scopes with a defect, from which cut, until which, and which events that concerns.

Before a build runs, the events that it adds are judged. An aggregate with a defect is left out from the cut of the
defect on, and with an order, a payment or a refund the whole order: order, payments and refunds stand as at the cut
before, where they agreed with each other, so the journal stays balanced and every report of an earlier cut is what it
was. The defect is over with a later good event (after a lost version: with one that a person had stated again), or when
the lake was mended. What came meanwhile is then taken in *at that cut*: reports of earlier cuts, closed months among
them, do not change, and the first open month gets it.

Belongs here: the records in `lake.builds`, and keeping them. Does not belong here: which aggregates have a defect
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
from derived.judging import Case, judged_window, read_cases, scopes_of_suspects, touched_scopes
from derived.lake_connection import LAKE, transaction
from derived.shared_lines import shared_lines
from derived.standing import LEFT_OUT_EVENTS, Connection, has_table

LEFT_OUT = f"{LAKE}.builds.left_out"
TABLES = (
    # One row per scope and time: it is left out from from_cut on, before until_cut (null: still).
    f"""create table if not exists {LEFT_OUT} (
        pod varchar not null, merchant_id varchar not null, aggregate_type varchar not null,
        aggregate_id varchar not null, version bigint not null, defect varchar not null, scope_type varchar not null,
        scope_id varchar not null, currency varchar, amounts varchar not null, from_cut bigint not null,
        until_cut bigint, build_id varchar not null)""",
    # Its events from from_cut to until_cut; models have them at into_cut (null: not yet, and never of a bad one).
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
"""Defects that end when another pod's events come: versions before these, and refunds or payments beside them."""
LEFT_OUT_MAX = 10_000
"""Scopes that one build leaves out anew; more is no damage of aggregates but a fault of the models or the lake."""
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
    """Return whether events of any aggregate are or were left out: else builds need not look for them."""
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
    """Return every aggregate that is left out as of a cut, by key: those with a defect, and what goes with them."""
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
    others: Mapping[str, tuple[int, int]] | None = None,
    elsewhere: Mapping[str, int] | None = None,
) -> list[Omission]:
    """Judge the events of `pod` after `since` up to `cut`, and record what the build that adds them leaves out.

    `shown_cut`: up to which cut a complete build has shown the pod. `others`: the pods that this build judged before,
    with the same two cuts; `elsewhere`: all its other pods, with the cuts that it stands at. In one commit of its own;
    the caller holds the build lock. Returns what is left out at `cut`. WarehouseError when it is more than single
    aggregates can explain.
    """
    recorded = _recorded(connection, pod)
    shared = shared_lines(connection, pod, since, cut, others=others or {})
    bad = {(claim.cut, claim.event_id) for claim in shared}
    anew: list[Scope] = []
    with judged_window(connection, pod, since, cut):
        found = scopes_of_suspects(connection, pod, since)
        found |= {claim.scope for claim in shared if claim.cut > since}
        again = _to_judge_again(connection, pod, recorded, found, since)
        if elsewhere and cut > since:
            again = _waiting_for_others(recorded, since) | again
        starts = dict.fromkeys(found, since) | again
        known = _known_aggregates(connection, pod, recorded, starts)
        with transaction(connection) if starts else nullcontext():
            for some in _some_at_once(starts):
                read = read_cases(connection, pod, some, known, cut=cut, elsewhere=elsewhere or {})
                cases = _with_shared(read, bad)
                changed = [_changed(pod, case, recorded, cut, shown_cut) for case in cases]
                anew += [one.scope for one in changed if one.scope not in again and one.is_left_out]
                _refuse_too_many(pod, anew, len(starts))
                _write(connection, pod, changed, build_id)
    if starts:
        recorded = _recorded(connection, pod)
    return [one for one in recorded if one.from_cut <= cut and (one.until_cut is None or one.until_cut > cut)]


def _with_shared(cases: Sequence[Case], shared: set[tuple[int, str]]) -> list[Case]:
    """Return the cases with these events (cut and id) as defective, where nothing else is wrong with them."""
    return [
        replace(
            case,
            events=[
                replace(event, defect=Defect.SHARED.name)
                if event.defect is None and (event.cut, event.event_id) in shared
                else event
                for event in case.events
            ],
        )
        for case in cases
    ]


@dataclass(frozen=True, kw_only=True)
class _Changed:
    """What is recorded of a scope from now on, after the cut `start`; earlier records stay."""

    scope: Scope
    start: int
    records: Sequence[Omission]
    rows: Sequence[_Row]

    @property
    def is_left_out(self) -> bool:
        """Whether it is left out at the cut up to which it was judged."""
        return any(one.until_cut is None for one in self.records)


def _some_at_once(starts: Mapping[Scope, int]) -> Iterator[dict[Scope, int]]:
    """Yield the scopes in portions: what is read of one portion is in memory at once."""
    scopes = sorted(starts)
    for first in range(0, len(scopes), SCOPES_AT_ONCE):
        yield {scope: starts[scope] for scope in scopes[first : first + SCOPES_AT_ONCE]}


def _to_judge_again(
    connection: Connection, pod: str, recorded: Sequence[Omission], found: set[Scope], since: int
) -> dict[Scope, int]:
    """Return what was left out after `since` and has new events, or may be over: scope -> after which cut to judge.

    Where a build starts while something was left out, the histories lack what came in later: it is judged from before.
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
    """Return what waits for a version that may come from another pod by now: scope -> after which cut to judge."""
    return {
        one.scope: min(since, one.from_cut - 1) for one in recorded if one.until_cut is None and one.defect in MAY_COME
    }


def _changed(pod: str, case: Case, recorded: Sequence[Omission], cut: int, shown_cut: int) -> _Changed:
    """Judge one scope, and say what is recorded of it now."""
    judgement = judge(pod, case.scope, case.events, case.before)
    now = {one.from_cut: one for one in judgement.left_out}
    records = []
    for one in recorded:
        if one.scope != case.scope or one.from_cut <= case.start or one.from_cut in now:
            continue
        if one.until_cut is not None:
            records.append(one)
        elif one.from_cut <= shown_cut:
            # The lake was mended: what came since is taken in now, and reports that were made stay what they were.
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
    """Return the record that an event of a cut belongs to; the event that ended one does, too."""
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
    """Return the aggregates of the scopes, as far as events of them have been left out."""
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
    """Forget what was found out after `cut` of `pod`: its events are taken back. In the caller's transaction."""
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
