"""Reading what the warehouse judges before a build: which scopes are suspect, their events, and what was before.

Events are judged some thousands at a time, and what came out is kept without payloads: the first build has all events
there ever were, and the payloads of that many do not fit beside dbt. Belongs here: SQL over the lake's events and the
stored histories. Does not belong here: what follows from it (`derived/defective.py`), the rules for one payload
(`derived/defects.py`), the records (`derived/leaving_out.py`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from contracts.events import STATE_TYPES
from derived.defective import NEW, OF_AN_ORDER, Before, Event, Scope
from derived.defects import judged, taxed_lines, taxed_places, unique_events
from derived.lake_connection import LAKE, quote
from derived.lake_schema import EVENTS

Connection = duckdb.DuckDBPyConnection

POSITIONS_AT_ONCE = 30_000
"""How many events' payloads are read at once, at most: each event of a pod has a position of its own."""

NEW_EVENTS = "temp.main.new_events"
"""The events of one step, with their payloads."""
JUDGED_EVENTS = "temp.main.judged_events"
"""All events of the window with what is wrong with each by itself, without payloads."""

BEFORE_AMOUNTS = {
    "order": "json_object('placed_minor', total_minor, 'cancelled_minor', cancelled_minor)",
    "payment": "json_object('captured_minor', captured_minor, 'refunded_minor', refunded_minor)",
    "refund": "json_object('refunded_minor', if(status = 'completed', amount_minor, 0))",
    "adjustment": "json_object('adjusted_minor', amount_minor)",
}

BEFORE_TAXED = {
    "order": taxed_lines("lines", "line_taxes", "order_line_id"),
    "refund": taxed_lines("lines", "line_taxes", "refund_line_id"),
    "adjustment": taxed_places("history", "taxes"),
}

STANDING = {
    "aggregate_id": "VARCHAR",
    "version": "BIGINT",
    "merchant_id": "VARCHAR",
    "currency": "VARCHAR",
    "order_id": "VARCHAR",
    "payment_id": "VARCHAR",
    "amount": "BIGINT",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scope with all its events after the cut `start`, and what its aggregates were at that cut."""

    scope: Scope
    start: int
    events: Sequence[Event]
    before: Mapping[Scope, Before]


@contextmanager
def judged_window(connection: Connection, pod: str, since: int, cut: int) -> Iterator[None]:
    """Judge each event of the window by itself; what came out is there for the other functions until the block ends."""
    try:
        _make_judged_events(connection)
        window = _window(pod, since, cut)
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
                taxed varchar[])"""
    )


def _steps(connection: Connection, window: str) -> list[int]:
    """Return the steps that have events; a whole import may be one cut, but positions are those of single events."""
    rows = _rows(
        connection,
        f'select distinct "position" // {POSITIONS_AT_ONCE} as step from {EVENTS} where {window} order by step',
    )
    return [step for (step,) in rows]


def _judge_step(connection: Connection, window: str, step: int) -> None:
    first = step * POSITIONS_AT_ONCE
    positions = f'"position" >= {first} and "position" < {first + POSITIONS_AT_ONCE}'
    connection.execute(f"create or replace temp table {NEW_EVENTS} as {unique_events(f'{window} and {positions}')}")
    types = [row[0] for row in _rows(connection, f"select distinct aggregate_type from {NEW_EVENTS} order by all")]
    for aggregate_type in types:
        if aggregate_type in STATE_TYPES:
            connection.execute(
                f"""insert into {JUDGED_EVENTS} by name
                    select aggregate_type, aggregate_id, version, cut, merchant_id, currency, order_id, payment_id,
                           defect, coalesce(try_cast(amounts ->> 'refunded_minor' as BIGINT), 0) as refunded_minor,
                           taxed
                    from ({judged(aggregate_type, NEW_EVENTS)})"""
            )


def scopes_of_suspects(connection: Connection, pod: str, since: int) -> set[Scope]:
    """Return what has an event in the window that is wrong by itself, does not follow, or disagrees with refunds."""
    found: set[Scope] = set()
    for (aggregate_type,) in _rows(connection, f"select distinct aggregate_type from {JUDGED_EVENTS} order by all"):
        suspects = _suspects(connection, pod, aggregate_type, since)
        before = histories_of(connection, pod, aggregate_type, suspects, since)
        found |= {
            _scope(aggregate_type, aggregate_id, order_id, before.get(aggregate_id, NEW))
            for aggregate_id, order_id in suspects.items()
        }
    return found | _disagreeing(connection, pod, since)


def _suspects(connection: Connection, pod: str, aggregate_type: str, since: int) -> dict[str, str | None]:
    """Return aggregates with an event that is wrong by itself or beside the one before, and the order it is of."""
    is_of_order = "true" if aggregate_type in OF_AN_ORDER else "false"
    rows = _rows(
        connection,
        f"""with added as (
                select aggregate_id, arg_min(order_id, version) as order_id,
                       count(distinct (order_id, payment_id)) as homes, max(payment_id) as payment_id,
                       bool_or(defect is not null) as is_wrong,
                       count(*) as events, count(distinct version) as versions, min(version) as first,
                       max(version) as last, min(merchant_id) as merchant_id, max(merchant_id) as last_merchant_id,
                       min(currency) as currency, max(currency) as last_currency,
                       min(list_sort(taxed)) as taxed, max(list_sort(taxed)) as last_taxed
                from {JUDGED_EVENTS} where aggregate_type = {quote(aggregate_type)} group by aggregate_id
            ), standing as ({_standing(connection, pod, aggregate_type, since)}),
            before as ({_taxed_before(connection, pod, aggregate_type, since)})
            select added.aggregate_id, added.order_id
            from added left join standing on added.aggregate_id = standing.aggregate_id
                left join before on added.aggregate_id = before.aggregate_id
            where is_wrong or events <> versions or first <> coalesce(standing.version, 0) + 1
                or last - first + 1 <> versions or added.merchant_id <> last_merchant_id
                or added.currency is distinct from last_currency
                or added.merchant_id <> coalesce(standing.merchant_id, added.merchant_id)
                or added.currency <> coalesce(standing.currency, added.currency)
                or homes > 1 and {is_of_order}
                or {is_of_order} and added.order_id <> coalesce(standing.order_id, added.order_id)
                or added.payment_id <> coalesce(standing.payment_id, added.payment_id)
                or added.taxed <> last_taxed or added.taxed <> coalesce(before.taxed, added.taxed)""",
    )
    return dict(rows)


def _taxed_before(connection: Connection, pod: str, aggregate_type: str, since: int) -> str:
    """Return a query for what tax was booked on, of the aggregates in `added` that were there before."""
    if aggregate_type not in BEFORE_TAXED or not _has_history(connection, aggregate_type, since):
        return "select null::VARCHAR as aggregate_id, null::VARCHAR[] as taxed where false"
    key = STATE_TYPES[aggregate_type].ID_FIELD
    return f"""select {key} as aggregate_id, list_sort({BEFORE_TAXED[aggregate_type]}) as taxed
               from {history_of(aggregate_type)} as history
               where {_stood(pod, since)} and {key} in (select aggregate_id from added where first > 1)"""


def _scope(aggregate_type: str, aggregate_id: str, order_id: str | None, before: Before) -> Scope:
    if aggregate_type == "order":
        return aggregate_type, aggregate_id
    order_id = before.order_id or order_id
    is_of_order = aggregate_type in OF_AN_ORDER and order_id is not None
    return ("order", order_id or "") if is_of_order else (aggregate_type, aggregate_id)


def _disagreeing(connection: Connection, pod: str, since: int) -> set[Scope]:
    """Return payments, by their orders, that change by something else than their refunds within one cut."""
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
                    from ({_standing(connection, pod, aggregate_type, since)}) where amount <> 0
                )"""
        )
    return {
        ("order", row[0]) if row[0] is not None else ("payment", row[1])
        for row in _rows(
            connection,
            f"""select order_id, payment_id from ({" union all ".join(parts)})
                where is_new group by payment_id, order_id, merchant_id, currency, cut having sum(change) <> 0""",
        )
    }


def _standing(connection: Connection, pod: str, aggregate_type: str, since: int) -> str:
    """Return a query for what stood of a type as of a cut; `amount`: what a payment or refund says was given back."""
    names = ", ".join(f"null::{kind} as {name}" for name, kind in STANDING.items())
    if not _has_history(connection, aggregate_type, since):
        return f"select {names} where false"
    fields = STATE_TYPES[aggregate_type].__struct_fields__
    named = ("currency", "order_id", "payment_id")
    amount = {"payment": "refunded_minor", "refund": "if(status = 'completed', amount_minor, 0)"}
    return f"""select {STATE_TYPES[aggregate_type].ID_FIELD} as aggregate_id, version, merchant_id,
                      {", ".join(f"{name if name in fields else 'null::VARCHAR'} as {name}" for name in named)},
                      {amount.get(aggregate_type, "0")} as amount
               from {history_of(aggregate_type)} where {_stood(pod, since)}"""


def _has_history(connection: Connection, aggregate_type: str, since: int) -> bool:
    return since > 0 and has_table(connection, history_of(aggregate_type).rpartition(".")[2], "intermediate")


def histories_of(
    connection: Connection, pod: str, aggregate_type: str, ids: Iterable[str], since: int
) -> dict[str, Before]:
    """Return what the histories have of these aggregates as of the cut `since`; nothing of those they do not have."""
    return _before(connection, pod, aggregate_type, since, STATE_TYPES[aggregate_type].ID_FIELD, set(ids))


def _before(
    connection: Connection, pod: str, aggregate_type: str, since: int, column: str, ids: set[str]
) -> dict[str, Before]:
    if not ids or not _has_history(connection, aggregate_type, since):
        return {}
    names = set(STATE_TYPES[aggregate_type].__struct_fields__)
    homes = ", ".join(name if name in names else "null" for name in ("currency", "order_id", "payment_id"))
    amounts = BEFORE_AMOUNTS.get(aggregate_type, "json_object()")
    rows = _rows(
        connection,
        f"""select {STATE_TYPES[aggregate_type].ID_FIELD}, version, merchant_id, {homes},
                   {amounts}::VARCHAR, {BEFORE_TAXED.get(aggregate_type, "[]")}
            from {history_of(aggregate_type)} as history
            where {_stood(pod, since)} and {column} in (select unnest($ids::VARCHAR[]))""",
        {"ids": sorted(ids)},
    )
    return {
        row[0]: Before(
            version=row[1],
            merchant_id=row[2],
            currency=row[3],
            order_id=row[4],
            payment_id=row[5],
            amounts=json.loads(row[6]),
            taxed=row[7],
        )
        for row in rows
    }


def _stood(pod: str, since: int) -> str:
    return f"pod = {quote(pod)} and valid_from_cut <= {since} and (valid_to_cut is null or valid_to_cut > {since})"


def history_of(aggregate_type: str) -> str:
    """Return the address of the stored history of a type."""
    return f"{LAKE}.intermediate.int_{aggregate_type}s_history"


def touched_scopes(
    connection: Connection, pod: str, scopes: set[Scope], members: Mapping[Scope, set[Scope]], since: int
) -> set[Scope]:
    """Return those of the scopes that have an event in the window."""
    of = _of_orders(connection, pod, {one[1] for one in scopes if one[0] == "order"}, since)
    ids = {aggregate: scope for scope, known in members.items() for aggregate in known}
    ids |= {aggregate: scope for scope, known in of.items() for aggregate in known}
    if not ids:
        return set()
    rows = _rows(
        connection,
        f"""select distinct aggregate_type, aggregate_id from {JUDGED_EVENTS}
            where aggregate_id in (select unnest($ids::VARCHAR[]))""",
        {"ids": sorted({one[1] for one in ids})},
    )
    return {ids[row] for row in rows if row in ids}


def _of_orders(connection: Connection, pod: str, orders: set[str], since: int) -> dict[Scope, set[Scope]]:
    """Return the payments and refunds of orders: those that the histories have, and those with events in the window."""
    found: defaultdict[Scope, set[Scope]] = defaultdict(set)
    if not orders:
        return found
    for aggregate_type in ("payment", "refund"):
        for aggregate_id, one in _before(connection, pod, aggregate_type, since, "order_id", orders).items():
            found["order", one.order_id or ""].add((aggregate_type, aggregate_id))
        rows = _rows(
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
) -> list[Case]:
    """Return the scopes with all their events after their starts, up to `cut`.

    `known`: aggregates that are theirs; those that came in the window are looked for.
    """
    by_start: defaultdict[int, set[Scope]] = defaultdict(set)
    for scope, start in starts.items():
        by_start[start].add(scope)
    return [
        case
        for start, scopes in sorted(by_start.items())
        for case in _cases(connection, pod, start, scopes, known, cut)
    ]


def _cases(
    connection: Connection,
    pod: str,
    start: int,
    scopes: set[Scope],
    known: Mapping[Scope, set[Scope]],
    cut: int,
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
        for event in _events(
            connection, aggregate_type, f"{_window(pod, start, cut)} and aggregate_id in ({_list(chosen)})"
        ):
            events[event.aggregate].append(event)
        found_before = histories_of(connection, pod, aggregate_type, chosen, start)
        before |= {(aggregate_type, aggregate_id): one for aggregate_id, one in found_before.items()}
    for scope in sorted(scopes):
        mine = sorted(members[scope])
        yield Case(
            scope=scope,
            start=start,
            events=[event for one in mine for event in events[one]],
            before={one: before[one] for one in mine if one in before},
        )


def _events(connection: Connection, aggregate_type: str, condition: str) -> list[Event]:
    names = list(Event.__dataclass_fields__)
    rows = _rows(
        connection,
        f"select {', '.join(names)} from ({judged(aggregate_type, f'({unique_events(condition)})')}) "
        "order by version, cut, event_id",
    )
    values = [dict(zip(names, row, strict=True)) for row in rows]
    return [
        Event(**{**value, "amounts": _amounts(value["amounts"]), "taxed": value["taxed"] or ()}) for value in values
    ]


def _amounts(text: str | None) -> dict[str, int]:
    return {name: int(value) for name, value in json.loads(text or "{}").items() if value is not None}


def has_table(connection: Connection, name: str, schema: str = "builds") -> bool:
    """Return whether the lake has the table."""
    query = "select 1 from duckdb_tables() where database_name = ? and schema_name = ? and table_name = ?"
    return bool(_rows(connection, query, [LAKE, schema, name]))


def _rows(connection: Connection, query: str, parameters: object = None) -> list[tuple[Any, ...]]:
    return connection.execute(query, parameters).fetchall()


def _window(pod: str, since: int, cut: int) -> str:
    return f"pod = {quote(pod)} and cut > {since} and cut <= {cut}"


def _list(ids: Iterable[str]) -> str:
    return ", ".join(quote(one) for one in sorted(ids))
