"""The consumer that notes what merchants must be told: one delivery per endpoint and event, with the log's position.

It begins at the end of the log, and again where it cannot go on there: what lies between is missing from the notes, the
comparison with the lake finds it, and the repair notes it again. So a gap delays a message, and loses none. Nothing is
ever parked here: an event that cannot be read is told without its data.

Belongs here: applying a step. Does not belong here: which cuts an endpoint is told (`derived/webhooks/subscribing.py`),
sending (`derived/webhooks/sending.py`), the loop (`streams/consumer.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from contracts.ownership import WEBHOOKS
from contracts.settings import Settings
from contracts.webhooks import TOLD_AGGREGATES, public_type
from derived.webhooks.messages import ToldEvent, body_of
from derived.webhooks.skipping import keep_skipped
from derived.webhooks.subscribing import Subscription, adopt, subscriptions_for
from streams.log import EventLog
from streams.logs import build_log
from streams.projection import START, Entry, FencedError, ParkedEvent, Position, ProjectionState, Work
from streams.step_planning import floor_cut

NAME = WEBHOOKS.name
ROWS_AT_ONCE = 500
"""How many messages are in memory at once."""

_READ = "select partition, epoch, cut, chunk from webhooks.positions where pod = %s order by partition"
_IS_SUBSCRIBED = "select exists (select from webhooks.subscriptions where pod = %s and until_cut is null)"
_FORGET = "delete from webhooks.positions where pod = %s"
_MOVE = """
insert into webhooks.positions (pod, partition, epoch, cut, chunk, data_at) values (%s, %s, %s, %s, %s, %s)
on conflict (pod, partition) do update
set epoch = excluded.epoch, cut = excluded.cut, chunk = excluded.chunk, data_at = excluded.data_at
"""
NOTE = """
insert into webhooks.deliveries (
    endpoint_id, event_id, merchant_id, pod, epoch, cut, position, aggregate_type, aggregate_id, event_type,
    recorded_at, state, body
) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'waiting', %s)
on conflict (endpoint_id, event_id) do nothing
"""

logger = logging.getLogger("tieout.webhooks")

Cursor = psycopg.Cursor[tuple[Any, ...]]


class WebhookProjection:
    """What merchants must be told, as a projection of the log. Closes its connections with itself."""

    name = NAME

    def __init__(self, control_dsn: str, log: EventLog, *, is_observed_only: bool = False) -> None:
        self._dsn = control_dsn
        self._log = log
        self._is_observed_only = is_observed_only
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()
        self._log.close()

    @contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        if self._is_observed_only:
            with psycopg.connect(self._dsn, connect_timeout=10) as connection, connection.cursor() as cursor:
                yield cursor
            return
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = psycopg.connect(self._dsn, connect_timeout=10)
        with self._connection.transaction(), self._connection.cursor() as cursor:
            yield cursor

    def state(self, pod: str) -> ProjectionState:
        """Return what is noted of `pod`; begin at the end of the log where it cannot go on.

        Whoever only observes changes nothing, and is told that end; or that nothing is applied, when endpoints are
        subscribed and the positions are lost: what lies before that end was not noted then.
        """
        with self._transaction() as cursor:
            rows = cursor.execute(_READ, [pod]).fetchall()
            is_lost = not rows and cursor.execute(_IS_SUBSCRIBED, [pod]).fetchall()[0][0]
        if is_lost and self._is_observed_only:
            return ProjectionState(epoch=None, positions={})
        positions = {row[0]: Position(cut=row[2], chunk=row[3]) for row in rows}
        epoch = rows[0][1] if rows else None
        if epoch is not None and (self._is_observed_only or self._goes_on(pod, epoch, positions)):
            return ProjectionState(epoch=epoch or None, positions=positions)
        if rows:
            logger.warning(
                "%s: the log does not go on after cut %s; what lies between is noted once it was compared.",
                pod,
                floor_cut(positions),
            )
        return self._begin_at_end(pod, rows)

    def _goes_on(self, pod: str, epoch: str, positions: Mapping[int, Position]) -> bool:
        """Return whether the log has what comes after the positions, in the same history."""
        applied, end = floor_cut(positions), self._log.tail(pod, 1)
        if end.own_cut <= applied:
            is_same = end.manifest is None or end.manifest.epoch == epoch
            return end.own_cut == applied and is_same
        (first,) = self._log.manifests(pod, applied, limit=1) or (None,)
        if first is None or first.cut != applied + 1:
            return False
        if first.epoch == epoch or not epoch:
            return True
        return first.follows_epoch == epoch and set(positions.values()) == {Position(cut=applied, chunk=0)}

    def _begin_at_end(self, pod: str, known: Sequence[tuple[Any, ...]]) -> ProjectionState:
        end = self._log.tail(pod, 1)
        # Of an empty log one partition, so that it is known from where on to follow.
        count = len(end.manifest.partitions) if end.manifest is not None else 1
        positions = {partition: Position(cut=end.own_cut, chunk=0) for partition in range(count)}
        epoch = end.manifest.epoch if end.manifest is not None else ""
        if not self._is_observed_only:
            data_at = end.manifest.registered_at if end.manifest is not None else None
            with self._transaction() as cursor:
                if cursor.execute(_READ + " for update", [pod]).fetchall() != list(known):
                    raise FencedError(f"Another consumer has moved {NAME} of {pod}.")
                cursor.execute(_FORGET, [pod])
                _move(cursor, pod, epoch, positions, data_at)
        return ProjectionState(epoch=epoch or None, positions=positions)

    def apply(self, work: Work) -> None:
        """Note what the step's events mean for every endpoint, with its positions. Raises FencedError."""
        with self._transaction() as cursor:
            # One at a time per pod, also before its first position is stored.
            cursor.execute("select pg_advisory_xact_lock(hashtext('webhooks.positions'), hashtext(%s))", [work.pod])
            stored = {row[0]: Position(cut=row[2], chunk=row[3]) for row in cursor.execute(_READ, [work.pod])}
            if any(stored.get(partition, START) != place for partition, place in work.expected.items()):
                raise FencedError(f"Another consumer has moved {NAME} of {work.pod}.")
            begun = max((place.cut + (place.chunk > 0) for place in stored.values()), default=0)
            adopt(cursor, work.pod, begun)
            cuts = [entry.cut for entry in work.entries]
            if cuts:
                found = subscriptions_for(cursor, work.pod, min(cuts), max(cuts))
                rows = _deliveries(work.entries, found)
                while some := list(islice(rows, ROWS_AT_ONCE)):
                    cursor.executemany(NOTE, some)
                    # Where the positions were set back, or lost with the notes, these may have been noted before.
                    keep_skipped(cursor, some)
            _move(cursor, work.pod, work.epoch, work.positions, work.data_at)

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return nothing, because nothing is ever parked."""
        return ()


def _move(cursor: Cursor, pod: str, epoch: str, positions: Mapping[int, Position], data_at: Any) -> None:
    rows = [(pod, number, epoch, place.cut, place.chunk, data_at) for number, place in sorted(positions.items())]
    cursor.executemany(_MOVE, rows)


def _deliveries(entries: Sequence[Entry], subscriptions: Sequence[Subscription]) -> Iterator[tuple[Any, ...]]:
    by_merchant: dict[str, list[Subscription]] = {}
    for one in subscriptions:
        by_merchant.setdefault(one.merchant_id, []).append(one)
    for entry in entries if by_merchant else ():
        for event in told_events(entry.events, list(by_merchant)):
            endpoints = {
                one.endpoint_id for one in by_merchant[event.merchant_id] if one.has(entry.cut, event.event_type)
            }
            if endpoints:
                body = body_of(event)
                for endpoint_id in sorted(endpoints):
                    yield delivery_row(endpoint_id, event, entry.pod, entry.epoch, entry.cut, body)


def told_events(events: pa.Table | pa.RecordBatch, merchants: Sequence[str]) -> Iterator[ToldEvent]:
    """Yield those of these events of which one of these merchants can be told."""
    chosen = pc.and_(
        pc.is_in(events.column("merchant_id"), value_set=pa.array(merchants, pa.string())),
        pc.is_in(events.column("aggregate_type"), value_set=pa.array(TOLD_AGGREGATES, pa.string())),
    )
    mine = events.filter(chosen)
    columns = [mine.column(name).to_pylist() for name in ToldEvent._fields]
    yield from map(ToldEvent._make, zip(*columns, strict=True))


def delivery_row(endpoint_id: str, event: ToldEvent, pod: str, epoch: str, cut: int, body: bytes) -> tuple[Any, ...]:
    """Return the values of `NOTE`."""
    where = (pod, epoch, cut, event.position, event.aggregate_type, event.aggregate_id)
    return (
        endpoint_id,
        event.event_id,
        event.merchant_id,
        *where,
        public_type(event.event_type),
        event.recorded_at,
        body,
    )


def build(settings: Settings, *, is_observed_only: bool = False) -> WebhookProjection:
    """Return the notes of these settings as a projection."""
    return WebhookProjection(settings.control_dsn, build_log(settings), is_observed_only=is_observed_only)
