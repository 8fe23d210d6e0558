"""Reading what is judged before a build: the suspect scopes, their events, and their state before.

Events are judged in steps of some thousands, and only results without payloads are kept in memory: the first build
reads all events, and the payloads of so many do not fit beside dbt. Belongs here: SQL over the lake's events. Does not
belong here: the state before (`derived/histories_as_of.py`), what follows from a defect (`derived/defective.py`), the
rules for one payload (`derived/defects.py`), the records (`derived/leaving_out.py`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from contracts.events import STATE_TYPES
from derived.defective import NEW, OF_AN_ORDER, RESTATED, Before, Event, Scope, believed
from derived.defects import judged, unique_events
from derived.histories_as_of import (
    BEFORE_CONSTANT,
    Connection,
    before_of,
    compared_before,
    histories_of,
    rows_of,
    standing,
    window_of,
)
from derived.lake_connection import quote
from derived.lake_schema import EVENTS
from derived.unexplained import unexplained_sql

POSITIONS_AT_ONCE = 30_000
"""Maximum number of events whose payloads are read at once; each event of a pod has its own position."""

NEW_EVENTS = "temp.main.new_events"
"""The events of one step, with their payloads."""
JUDGED_EVENTS = "temp.main.judged_events"
"""All events of the window, without payloads, each with the defect that it has alone."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scope with all its events after the cut `start`, and the state of its aggregates at that cut."""

    scope: Scope
    start: int
    events: Sequence[Event]
    before: Mapping[Scope, Before]


@contextmanager
def judged_window(connection: Connection, pod: str, since: int, cut: int) -> Iterator[None]:
    """Judge each event of the window alone; the other functions can read the results until the block ends."""
    try:
        _make_judged_events(connection)
        window = window_of(pod, since, cut)
        for step in _steps(connection, window):
            _judge_step(connection, window, step)
        yield
    finally:
        for table in (NEW_EVENTS, JUDGED_EVENTS):
            connection.execute(f"drop table if exists {table}")


def _make_judged_events(connection: Connection) -> None:
    connection.execute(
        f"""create or replace temp table {JUDGED_EVENTS} (
                aggregate_type varchar, aggregate_id varchar, version bigint, cut bigint, merchant_id varchar,
                currency varchar, order_id varchar, payment_id varchar, defect varchar, refunded_minor bigint,
                "position" bigint,
                taxed varchar[], event_type varchar, constant ubigint, parts ubigint[])"""
    )


def _steps(connection: Connection, window: str) -> list[int]:
    """Return the steps that have events. Steps are ranges of positions, because one cut may be a whole import."""
    rows = rows_of(
        connection,
        f'select distinct "position" // {POSITIONS_AT_ONCE} as step from {EVENTS} where {window} order by step',
    )
    return [step for (step,) in rows]


def _judge_step(connection: Connection, window: str, step: int) -> None:
    first = step * POSITIONS_AT_ONCE
    positions = f'"position" >= {first} and "position" < {first + POSITIONS_AT_ONCE}'
    connection.execute(f"create or replace temp table {NEW_EVENTS} as {unique_events(f'{window} and {positions}')}")
    types = [row[0] for row in rows_of(connection, f"select distinct aggregate_type from {NEW_EVENTS} order by all")]
    for aggregate_type in types:
        if aggregate_type in STATE_TYPES:
            connection.execute(
                f"""insert into {JUDGED_EVENTS} by name
                    select aggregate_type, aggregate_id, version, cut, merchant_id, currency, order_id, payment_id,
                           defect, coalesce(try_cast(amounts ->> 'refunded_minor' as BIGINT), 0) as refunded_minor,
                           taxed, event_type, constant, parts, "position"
                    from ({judged(aggregate_type, NEW_EVENTS)})"""
            )


def scopes_of_suspects(connection: Connection, pod: str, since: int) -> set[Scope]:
    """Return scopes with a suspect event in the window: defective alone, not following, or disagreeing with refunds."""
    found: set[Scope] = set()
    for (aggregate_type,) in rows_of(connection, f"select distinct aggregate_type from {JUDGED_EVENTS} order by all"):
        suspects = _suspects(connection, pod, aggregate_type, since)
        before = histories_of(connection, pod, aggregate_type, suspects, since)
        found |= {
            _scope(aggregate_type, aggregate_id, order_id, before.get(aggregate_id, NEW))
            for aggregate_id, order_id in suspects.items()
        }
    return found | _disagreeing(connection, pod, since)


def _suspects(connection: Connection, pod: str, aggregate_type: str, since: int) -> dict[str, str | None]:
    """Return aggregate -> order of aggregates with an event that is wrong alone or compared with the previous one."""
    is_of_order = "true" if aggregate_type in OF_AN_ORDER else "false"
    rows = rows_of(
        connection,
        f"""with added as (
                select aggregate_id, arg_min(order_id, (version, cut, "position")) as order_id,
                       count(distinct (order_id, payment_id)) as homes, max(payment_id) as payment_id,
                       bool_or(defect is not null) as is_wrong,
                       count(*) as events, count(distinct version) as versions, min(version) as first,
                       max(version) as last, min(merchant_id) as merchant_id, max(merchant_id) as last_merchant_id,
                       min(currency) as currency, max(currency) as last_currency,
                       min(list_sort(taxed)) as taxed, max(list_sort(taxed)) as last_taxed,
                       list(cut order by version) as cuts
                from {JUDGED_EVENTS} where aggregate_type = {quote(aggregate_type)} group by aggregate_id
            ), standing as ({standing(connection, pod, aggregate_type, since)}),
            before as ({compared_before(connection, pod, aggregate_type, since)}),
            unexplained as ({_unexplained(aggregate_type)})
            select added.aggregate_id, added.order_id
            from added left join standing on added.aggregate_id = standing.aggregate_id
                left join before on added.aggregate_id = before.aggregate_id
            where is_wrong or added.aggregate_id in (from unexplained)
                or events <> versions or first <> coalesce(standing.version, 0) + 1 or last - first + 1 <> versions
                or cuts <> list_sort(cuts)
                or added.merchant_id <> last_merchant_id
                or added.currency is distinct from last_currency
                or added.merchant_id <> coalesce(standing.merchant_id, added.merchant_id)
                or added.currency <> coalesce(standing.currency, added.currency)
                or homes > 1 and {is_of_order}
                or {is_of_order} and added.order_id <> coalesce(standing.order_id, added.order_id)
                or added.payment_id <> coalesce(standing.payment_id, added.payment_id)
                or added.taxed <> last_taxed or added.taxed <> coalesce(before.taxed, added.taxed)""",
    )
    return dict(rows)


def _unexplained(aggregate_type: str) -> str:
    """Return a query for aggregates whose amounts change in the window although their events may not change them."""
    if aggregate_type not in BEFORE_CONSTANT:
        return "select null::VARCHAR where false"
    changed = unexplained_sql(("was_constant", "constant"), ("was_parts", "parts"), "event_type")
    return f"""
        select distinct aggregate_id from (
            select aggregate_id, event_type, new.constant, new.parts,
                   coalesce(lag(new.constant) over versions, before.constant) as was_constant,
                   coalesce(lag(new.parts) over versions, before.parts) as was_parts
            from {JUDGED_EVENTS} as new left join before using (aggregate_id)
            where aggregate_type = {quote(aggregate_type)} and defect is null
            window versions as (partition by aggregate_id order by version)
        ) where not suffix(event_type, '{RESTATED}') and ({changed})"""


def _scope(aggregate_type: str, aggregate_id: str, order_id: str | None, before: Before) -> Scope:
    if aggregate_type == "order":
        return aggregate_type, aggregate_id
    order_id = before.order_id or order_id
    is_of_order = aggregate_type in OF_AN_ORDER and order_id is not None
    return ("order", order_id or "") if is_of_order else (aggregate_type, aggregate_id)


def _disagreeing(connection: Connection, pod: str, since: int) -> set[Scope]:
    """Return payments, by order, whose refunded amount changes within a cut by another sum than their refunds."""
    parts = []
    for aggregate_type, payment_id, sign in (("payment", "aggregate_id", 1), ("refund", "payment_id", -1)):
        parts.append(
            f"""select {payment_id} as payment_id, order_id, merchant_id, currency, cut, is_new,
                       {sign} * (amount - lag(amount, 1, 0) over (partition by aggregate_id order by version)) as change
                from (
                    select aggregate_id, payment_id, order_id, merchant_id, currency, cut, version,
                           refunded_minor as amount, true as is_new
                    from {JUDGED_EVENTS} where aggregate_type = '{aggregate_type}' and defect is null
                    union all by name
                    select aggregate_id, version, amount, false as is_new
                    from ({standing(connection, pod, aggregate_type, since)}) where amount <> 0
                )"""
        )
    return {
        ("order", row[0]) if row[0] is not None else ("payment", row[1])
        for row in rows_of(
            connection,
            f"""select order_id, payment_id from ({" union all ".join(parts)})
                where is_new group by payment_id, order_id, merchant_id, currency, cut having sum(change) <> 0""",
        )
    }


def touched_scopes(
    connection: Connection, pod: str, scopes: set[Scope], members: Mapping[Scope, set[Scope]], since: int
) -> set[Scope]:
    """Return the scopes among these that have an event in the window."""
    of = _of_orders(connection, pod, {one[1] for one in scopes if one[0] == "order"}, since)
    ids = {aggregate: scope for scope, known in members.items() for aggregate in known}
    ids |= {aggregate: scope for scope, known in of.items() for aggregate in known}
    if not ids:
        return set()
    rows = rows_of(
        connection,
        f"""select distinct aggregate_type, aggregate_id from {JUDGED_EVENTS}
            where aggregate_id in (select unnest($ids::VARCHAR[]))""",
        {"ids": sorted({one[1] for one in ids})},
    )
    return {ids[row] for row in rows if row in ids}


def _of_orders(connection: Connection, pod: str, orders: set[str], since: int) -> dict[Scope, set[Scope]]:
    """Return the payments and refunds of orders, from the stored histories and from events in the window."""
    found: defaultdict[Scope, set[Scope]] = defaultdict(set)
    if not orders:
        return found
    for aggregate_type in ("payment", "refund"):
        for aggregate_id, one in before_of(connection, pod, aggregate_type, since, "order_id", orders).items():
            found["order", one.order_id or ""].add((aggregate_type, aggregate_id))
        rows = rows_of(
            connection,
            f"""select distinct order_id, aggregate_id from {JUDGED_EVENTS}
                where aggregate_type = '{aggregate_type}' and order_id in (select unnest($ids::VARCHAR[]))""",
            {"ids": sorted(orders)},
        )
        for order_id, aggregate_id in rows:
            found["order", order_id].add((aggregate_type, aggregate_id))
    return found


def read_cases(
    connection: Connection,
    pod: str,
    starts: Mapping[Scope, int],
    known: Mapping[Scope, set[Scope]],
    *,
    cut: int,
    elsewhere: Mapping[str, int],
) -> list[Case]:
    """Return the scopes with all their events after their starts, up to `cut`.

    `known`: scope -> aggregates that belong to it; those that came in the window are searched. `elsewhere`: other pod
    -> the cut up to which it is read; it may have the earlier versions of an aggregate that moved.
    """
    by_start: defaultdict[int, set[Scope]] = defaultdict(set)
    for scope, start in starts.items():
        by_start[start].add(scope)
    return [
        case
        for start, scopes in sorted(by_start.items())
        for case in _cases(connection, pod, start, scopes, known, cut, elsewhere)
    ]


def _cases(
    connection: Connection,
    pod: str,
    start: int,
    scopes: set[Scope],
    known: Mapping[Scope, set[Scope]],
    cut: int,
    elsewhere: Mapping[str, int],
) -> Iterator[Case]:
    members = {scope: {scope} | known.get(scope, set()) for scope in scopes}
    orders = {scope[1] for scope in scopes if scope[0] == "order"}
    for scope, found in _of_orders(connection, pod, orders, start).items():
        members[scope] |= found
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for aggregate_type, aggregate_id in {one for found in members.values() for one in found}:
        ids[aggregate_type].add(aggregate_id)
    events: defaultdict[Scope, list[Event]] = defaultdict(list)
    before: dict[Scope, Before] = {}
    for aggregate_type, chosen in sorted(ids.items()):
        mine = _events(
            connection, aggregate_type, f"{window_of(pod, start, cut)} and aggregate_id in ({_list(chosen)})"
        )
        for event in mine:
            events[event.aggregate].append(event)
        found_before = histories_of(connection, pod, aggregate_type, chosen, start)
        found_before |= _before_elsewhere(connection, aggregate_type, mine, found_before, elsewhere)
        before |= {(aggregate_type, aggregate_id): one for aggregate_id, one in found_before.items()}
    for scope in sorted(scopes):
        theirs = sorted(members[scope])
        yield Case(
            scope=scope,
            start=start,
            events=[event for one in theirs for event in events[one]],
            before={one: before[one] for one in theirs if one in before},
        )


def _before_elsewhere(
    connection: Connection,
    aggregate_type: str,
    events: Sequence[Event],
    before: Mapping[str, Before],
    elsewhere: Mapping[str, int],
) -> dict[str, Before]:
    """Return from other pods the state before an aggregate's first version here, if that version does not follow here.

    A merchant can move to another pod, and versions continue there. A bad version in the other pod does not count.
    """
    firsts: dict[str, int] = {}
    for event in events:
        firsts[event.aggregate_id] = min(event.version, firsts.get(event.aggregate_id, event.version))
    open_ended = {
        aggregate_id: first
        for aggregate_id, first in firsts.items()
        if first > before.get(aggregate_id, NEW).version + 1
    }
    if not open_ended or not elsewhere:
        return {}
    windows = " or ".join(window_of(name, 0, cut) for name, cut in elsewhere.items())
    # Only the directly preceding version counts: compared with an earlier one, a lost version's change would look like
    # a defect of this one.
    found = {
        event.aggregate_id: event
        for event in _events(connection, aggregate_type, f"({windows}) and aggregate_id in ({_list(open_ended)})")
        if event.defect is None and event.version == open_ended[event.aggregate_id] - 1
    }
    return {name: replace(believed(event), amounts=event.amounts) for name, event in found.items()}


def _events(connection: Connection, aggregate_type: str, condition: str) -> list[Event]:
    names = list(Event.__dataclass_fields__)
    columns = ", ".join(f'"{name}"' for name in names)
    rows = rows_of(
        connection,
        f"select {columns} from ({judged(aggregate_type, f'({unique_events(condition)})')}) "
        'order by cut, "position", event_id',
    )
    values = [dict(zip(names, row, strict=True)) for row in rows]
    return [
        Event(**{**value, "amounts": _amounts(value["amounts"]), "taxed": value["taxed"] or ()}) for value in values
    ]


def _amounts(text: str | None) -> dict[str, int]:
    return {name: int(value) for name, value in json.loads(text or "{}").items() if value is not None}


def _list(ids: Iterable[str]) -> str:
    return ", ".join(quote(one) for one in sorted(ids))
