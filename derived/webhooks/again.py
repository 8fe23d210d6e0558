"""Notes deliveries from the lake: those that a merchant wants to be told again, and those whose note was lost.

The log keeps little, the lake keeps everything. What is noted again waits like everything else, in its order, and is
sent with the same Webhook-Id as before.

Belongs here: choosing events in the lake, and noting them. Does not belong here: sending, who may ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg

from contracts.errors import ConflictError, NotFoundError
from contracts.text import counted
from contracts.webhooks import TOLD_AGGREGATES
from derived.lake_schema import EVENTS
from derived.webhooks.following import delivery_row
from derived.webhooks.messages import ToldEvent, body_of
from derived.webhooks.skipping import end_skips, keep_skipped

if TYPE_CHECKING:
    import duckdb

Afterwards = Callable[[psycopg.Cursor[Any], Sequence[Sequence[Any]]], None]
"""What is done with notes in the transaction that has written them."""
AT_ONCE = 500
"""How many deliveries are noted in one commit: the sender waits for none of them long."""

_ENDPOINT = """
select merchant_id, event_types, version from webhooks.endpoints where endpoint_id = %s and deleted_at is null
"""
_NOTED = "select pod, min(cut) from webhooks.positions group by pod"
_WAITING = "select count(*) from webhooks.deliveries where endpoint_id = %s and state = 'waiting'"
_SUBSCRIBE = """
insert into webhooks.subscriptions
    (endpoint_id, merchant_id, pod, from_cut, until_cut, event_types, endpoint_version, reason)
values (%s, %s, %s, %s, %s, %s, %s, 'replayed')
"""
_AGAIN = """
insert into webhooks.deliveries (
    endpoint_id, event_id, merchant_id, pod, epoch, cut, position, aggregate_type, aggregate_id, event_type,
    recorded_at, state, body
) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'waiting', %s)
on conflict (endpoint_id, event_id) do update set
    merchant_id = excluded.merchant_id, pod = excluded.pod, epoch = excluded.epoch, cut = excluded.cut,
    position = excluded.position, aggregate_type = excluded.aggregate_type, aggregate_id = excluded.aggregate_id,
    event_type = excluded.event_type, recorded_at = excluded.recorded_at, state = 'waiting', body = excluded.body,
    acknowledged_at = null, first_failed_at = null, next_attempt_at = null
"""
_SUBSCRIBED = """
select s.merchant_id, s.from_cut, s.until_cut, s.event_types from webhooks.subscriptions as s
inner join webhooks.endpoints as e on e.endpoint_id = s.endpoint_id and e.deleted_at is null
where s.endpoint_id = %s and s.pod = %s
"""
_WITHDRAW = """
update webhooks.deliveries set state = 'withdrawn', body = null, acknowledged_at = null, next_attempt_at = null
where endpoint_id = %s and event_id = %s and state <> 'withdrawn'
"""
_STATES = """
select endpoint_id, event_id, state from webhooks.deliveries
where (endpoint_id, event_id) in (select * from unnest(%s::text[], %s::text[])) order by endpoint_id, event_id
"""
_COLUMNS = ", ".join((*ToldEvent._fields, "epoch", "cut"))
# An event that the lake has twice is one event.
_ONCE = "qualify row_number() over (partition by event_id order by cut) = 1"
_TYPE = "regexp_replace(event_type, '_', '.')"


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a replay tells again, or would."""

    endpoint_id: str
    cuts: Mapping[str, tuple[int, int]]
    """Pod -> the first and the last cut."""
    events: Mapping[str, int]
    """Type of event -> how many."""

    @property
    def total(self) -> int:
        """How many messages these are."""
        return sum(self.events.values())


@dataclass(frozen=True, kw_only=True)
class _Endpoint:
    endpoint_id: str
    merchant_id: str
    event_types: Sequence[str]
    version: int


def plan_replay(
    lake: duckdb.DuckDBPyConnection, control_dsn: str, endpoint_id: str, from_cuts: Mapping[str, int]
) -> Replay:
    """Return what a replay from these cuts (by pod) would tell: of each pod all that was noted and the lake has."""
    with psycopg.connect(control_dsn) as connection:
        endpoint = _endpoint(connection, endpoint_id)
        noted = {pod: int(cut) for pod, cut in connection.execute(_NOTED).fetchall()}
    events: dict[str, int] = {}
    cuts: dict[str, tuple[int, int]] = {}
    for pod, first in sorted(from_cuts.items()):
        last = min(noted.get(pod, 0), _lake_cut(lake, pod))
        if first > last:
            continue
        cuts[pod] = (first, last)
        condition, values = _chosen(endpoint, pod, first, last)
        rows = lake.execute(
            f"select {_TYPE}, count(distinct event_id) from {EVENTS} where {condition} group by all", values
        ).fetchall()
        for kind, number in rows:
            events[str(kind)] = events.get(str(kind), 0) + int(number)
    return Replay(endpoint_id=endpoint_id, cuts=cuts, events=dict(sorted(events.items())))


def replay(lake: duckdb.DuckDBPyConnection, control_dsn: str, planned: Replay, *, waiting_max: int) -> Replay:
    """Note what a plan names, so that it is told again; return the plan. ConflictError when too much would wait."""
    with psycopg.connect(control_dsn, autocommit=True) as connection:
        endpoint = _endpoint(connection, planned.endpoint_id)
        waiting = int(connection.execute(_WAITING, [planned.endpoint_id]).fetchall()[0][0])
        if waiting + planned.total > waiting_max:
            raise ConflictError(
                f"{counted(waiting, 'message')} wait for this endpoint, and {planned.total:,} would come; at most "
                f"{waiting_max:,} may wait. Replay from a later cut."
            )
        for pod, (first, last) in planned.cuts.items():
            # First, so that what is lost by an interruption counts as missing.
            given = (endpoint.endpoint_id, endpoint.merchant_id, pod, first, last, list(endpoint.event_types))
            connection.execute(_SUBSCRIBE, (*given, endpoint.version))
            condition, values = _chosen(endpoint, pod, first, last)
            rows = ((endpoint.endpoint_id, row) for row in _read(lake, condition, values))
            _note(connection, pod, rows, end_skips)
    return planned


def note_again(lake: duckdb.DuckDBPyConnection, control_dsn: str, pod: str, keys: Sequence[str]) -> tuple[int, int]:
    """Bring the notes with these keys (``endpoint/event``) to what the lake says.

    What its endpoint must be told is noted to be told (again); what is none of its business is withdrawn. Returns
    (how many are told again, how many are withdrawn).
    """
    wanted: dict[str, list[str]] = {}
    for key in keys:
        endpoint_id, _, event_id = key.partition("/")
        wanted.setdefault(endpoint_id, []).append(event_id)
    told = withdrawn = 0
    with psycopg.connect(control_dsn, autocommit=True) as connection:
        for endpoint_id, events in wanted.items():
            subscribed = connection.execute(_SUBSCRIBED, (endpoint_id, pod)).fetchall()
            values = {"pod": pod, "events": events}
            rows = [row for row in _read(lake, "pod = $pod and event_id in (select unnest($events))", values)]
            due = [row for row in rows if _is_told(row, subscribed)]
            # A repair skips again what a person has skipped; only who asks for a replay has it told.
            _note(connection, pod, ((endpoint_id, row) for row in due), keep_skipped)
            told += len(due)
            for event_id in set(events) - {row[0] for row in due}:
                withdrawn += connection.execute(_WITHDRAW, (endpoint_id, event_id)).rowcount
    return told, withdrawn


def noted(control_dsn: str, keys: Sequence[str]) -> dict[str, str]:
    """Return what is noted of these keys (``endpoint/event``): the state of each note that is there."""
    given = [key.partition("/")[::2] for key in keys]
    with psycopg.connect(control_dsn) as connection:
        rows = connection.execute(_STATES, ([one for one, _ in given], [other for _, other in given])).fetchall()
    return {f"{endpoint_id}/{event_id}": state for endpoint_id, event_id, state in rows}


def _endpoint(connection: psycopg.Connection[Any], endpoint_id: str) -> _Endpoint:
    row = connection.execute(_ENDPOINT, [endpoint_id]).fetchone()
    if row is None:
        raise NotFoundError(f"There is no endpoint {endpoint_id!r}.")
    return _Endpoint(endpoint_id=endpoint_id, merchant_id=row[0], event_types=row[1], version=row[2])


def _lake_cut(lake: duckdb.DuckDBPyConnection, pod: str) -> int:
    from derived.lake_reads import lake_positions

    return min((position.cut for position in lake_positions(lake, pod).values()), default=0)


def _chosen(endpoint: _Endpoint, pod: str, first: int, last: int) -> tuple[str, dict[str, Any]]:
    """Return the condition on the lake's events of a replay, and its values."""
    condition = (
        "pod = $pod and merchant_id = $merchant_id and cut between $first and $last "
        f"and aggregate_type in (select unnest($aggregates)) and {_TYPE} in (select unnest($types))"
    )
    values = {
        "pod": pod,
        "merchant_id": endpoint.merchant_id,
        "first": first,
        "last": last,
        "aggregates": list(TOLD_AGGREGATES),
        "types": list(endpoint.event_types),
    }
    return condition, values


def _read(lake: duckdb.DuckDBPyConnection, condition: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    found = lake.execute(
        f"select {_COLUMNS} from {EVENTS} where {condition} {_ONCE} order by cut, position", dict(values)
    )
    while rows := found.fetchmany(AT_ONCE):
        yield from rows


def _is_told(row: Sequence[Any], subscribed: Sequence[tuple[str, int, int | None, Sequence[str]]]) -> bool:
    """Return whether one of an endpoint's subscriptions has an event."""
    event, cut = ToldEvent._make(row[: len(ToldEvent._fields)]), row[-1]
    kind = event.event_type.replace("_", ".", 1)
    return event.aggregate_type in TOLD_AGGREGATES and any(
        merchant_id == event.merchant_id and first <= cut and (last is None or cut <= last) and kind in types
        for merchant_id, first, last, types in subscribed
    )


def _note(
    connection: psycopg.Connection[Any],
    pod: str,
    found: Iterator[tuple[str, Sequence[Any]]],
    afterwards: Afterwards,
) -> None:
    batch: list[tuple[Any, ...]] = []
    for endpoint_id, row in found:
        *told, epoch, cut = row
        event = ToldEvent._make(told)
        batch.append(delivery_row(endpoint_id, event, pod, epoch, cut, body_of(event)))
        if len(batch) == AT_ONCE:
            _write(connection, batch, afterwards)
            batch = []
    _write(connection, batch, afterwards)


def _write(connection: psycopg.Connection[Any], batch: Sequence[tuple[Any, ...]], afterwards: Afterwards) -> None:
    if not batch:
        return
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_AGAIN, batch)
        afterwards(cursor, batch)


def from_cuts_at(lake: duckdb.DuckDBPyConnection, pods: Sequence[str], moment: datetime) -> dict[str, int]:
    """Return pod -> the first cut that may have an event of after `moment`."""
    from derived.lake_reads import cut_vector_at

    known = cut_vector_at(lake, moment)
    return {pod: known.get(pod, 0) + 1 for pod in pods}
