"""What the tests of streams/ share: a pod that consists of outbox and cuts, and a projection that records what it gets.

Belongs here: values and stores for tests. Does not belong here: assertions.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.types.json import Json
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from oltp.store.tables import cuts, epochs, outbox
from streams.cuts import CutShape
from streams.log import EventLog
from streams.projection import FencedError, ParkedEvent, PoisonEventError, Position, ProjectionState, Work
from streams.relay import Relay

MIGRATIONS = Path(__file__).resolve().parents[1] / "oltp" / "store" / "migrations" / "sql"
SHAPE = CutShape(partition_count=3, chunk_rows=10)
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def create_outbox(dsn: str) -> str:
    """Create schema oltp with the declared outbox, cuts and epochs, but not the triggers that tie them to commands."""
    dialect = postgresql.dialect()
    tables = [CreateTable(table) for table in (outbox, cuts, epochs)]
    statements: list[Any] = [*tables, *(CreateIndex(index) for index in outbox.indexes)]
    with psycopg.connect(dsn) as connection:
        connection.execute("create schema oltp")
        for statement in statements:
            connection.execute(str(statement.compile(dialect=dialect)))
        connection.execute((MIGRATIONS / "0005_deletions.sql").read_bytes())
    return dsn


INSERT_EVENT = """
insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type,
                         schema_version, occurred_at, correlation_id, payload, directory_epoch)
values (%(event_id)s, %(merchant_id)s, 'thing', %(aggregate_id)s, %(version)s, 'thing_changed', 1, %(occurred_at)s,
        %(correlation_id)s, %(payload)s, %(directory_epoch)s)
"""


def insert_event(
    connection: psycopg.Connection[Any],
    aggregate_id: str,
    version: int,
    *,
    text: str = "",
    merchant_id: str = "shop",
    directory_epoch: int = 1,
) -> str:
    """Insert one event into the outbox in the connection's transaction; return its id."""
    event_id = str(uuid.uuid4())
    values = {
        "event_id": event_id,
        "merchant_id": merchant_id,
        "aggregate_id": aggregate_id,
        "version": version,
        "occurred_at": MOMENT,
        "correlation_id": str(uuid.uuid4()),
        "directory_epoch": directory_epoch,
        "payload": Json({"state": {"version": version, "text": text}, "changed": ["text"]}),
    }
    connection.execute(INSERT_EVENT, values)
    return event_id


def insert_events(dsn: str, count: int, *, prefix: str = "a", version: int = 1) -> list[str]:
    """Commit `count` events, each of its own aggregate; return their ids."""
    with psycopg.connect(dsn) as connection:
        return [insert_event(connection, f"{prefix}{number}", version) for number in range(count)]


def make_relay(dsn: str, log: EventLog, **changes: Any) -> Relay:
    """Return a relay of pod `pod1` with small chunks."""
    values: dict[str, Any] = {"pod": "pod1", "dsn": dsn, "log": log, "shape": SHAPE, **changes}
    return Relay(**values)


def stored_events(count: int, *, seed: int = 1) -> pa.Table:
    """Return `count` random events with the columns that an entry stores."""
    from streams.codec import STORED_SCHEMA

    rng = random.Random(seed)
    rows = [
        {
            "position": number + 1,
            "event_id": str(uuid.UUID(int=rng.getrandbits(128))),
            "merchant_id": rng.choice(["shop", "café", "東京"]),
            "aggregate_type": "thing",
            "aggregate_id": f"a{rng.randrange(5)}",
            "aggregate_version": rng.randrange(1, 2**40),
            "event_type": "thing_changed",
            "schema_version": 1,
            "occurred_at": MOMENT,
            "recorded_at": MOMENT,
            "causation_id": None if rng.random() < 0.5 else "cause",
            "correlation_id": "correlation",
            "traceparent": None,
            "payload": json.dumps({"state": {"text": "x" * rng.randrange(50)}}),
            "directory_epoch": 1,
        }
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=STORED_SCHEMA)


RECORDER_TABLES = """
create table if not exists applied (
    number bigint generated always as identity, pod text, cut bigint, "position" bigint, aggregate_id text,
    aggregate_version bigint, event_id text
);
create table if not exists positions (pod text, "partition" int, epoch text, cut bigint, chunk int,
    data_at timestamptz, primary key (pod, "partition"));
create table if not exists parked (pod text, aggregate_key text, event_id text, cut bigint, "position" bigint,
    event jsonb, error text, parked_at timestamptz, primary key (pod, event_id));
"""


@dataclass
class Recorder:
    """A projection in a PostgreSQL database of its own: keeps every event it gets, in the order it gets them.

    Events in `poison` cannot be applied. It has no guard by version on purpose: a repetition would show.
    """

    dsn: str
    name: str = "recorder"
    poison: set[str] = field(default_factory=set)
    works: list[Work] = field(default_factory=list)
    before_commit: Callable[[Work], None] = lambda work: None

    def __post_init__(self) -> None:
        """Create the tables."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(RECORDER_TABLES)

    def state(self, pod: str) -> ProjectionState:
        """Return positions and parked keys."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(
                'select "partition", epoch, cut, chunk from positions where pod = %s', (pod,)
            ).fetchall()
            keys = connection.execute("select distinct aggregate_key from parked where pod = %s", (pod,)).fetchall()
        return ProjectionState(
            epoch=rows[0][1] if rows else None,
            positions={row[0]: Position(cut=row[2], chunk=row[3]) for row in rows},
            parked_keys=frozenset(key for (key,) in keys),
        )

    def apply(self, work: Work) -> None:
        """Append the events and move the positions in one transaction."""
        with psycopg.connect(self.dsn) as connection:
            self._fence(connection, work)
            connection.execute(
                "delete from parked where pod = %s and aggregate_key = any(%s)", (work.pod, list(work.released))
            )
            for key in work.behind:
                if key not in self.state(work.pod).parked_keys:
                    raise FencedError(f"{key} is not parked")
            for entry in work.entries:
                for row in entry.events.to_pylist():
                    self._apply_event(connection, work.pod, row)
            self._park(connection, work.pod, work.parked)
            self.before_commit(work)
        self.works.append(work)

    def _apply_event(self, connection: psycopg.Connection[Any], pod: str, row: dict[str, Any]) -> None:
        if row["event_id"] in self.poison:
            raise PoisonEventError(row["event_id"], "it is poison")
        connection.execute(
            'insert into applied (pod, cut, "position", aggregate_id, aggregate_version, event_id)'
            " values (%s, %s, %s, %s, %s, %s)",
            (pod, row["cut"], row["position"], row["aggregate_id"], row["aggregate_version"], row["event_id"]),
        )

    def _fence(self, connection: psycopg.Connection[Any], work: Work) -> None:
        rows = connection.execute(
            'select "partition", cut, chunk from positions where pod = %s for update', (work.pod,)
        ).fetchall()
        stored = {row[0]: Position(cut=row[1], chunk=row[2]) for row in rows}
        for partition, expected in work.expected.items():
            if stored.get(partition, Position(cut=0, chunk=0)) != expected:
                raise FencedError(f"Partition {partition} was moved by another consumer.")
        for partition, place in work.positions.items():
            connection.execute(
                'insert into positions values (%s, %s, %s, %s, %s, %s) on conflict (pod, "partition") do update'
                " set cut = excluded.cut, chunk = excluded.chunk, data_at = excluded.data_at",
                (work.pod, partition, work.epoch, place.cut, place.chunk, work.data_at),
            )

    def _park(self, connection: psycopg.Connection[Any], pod: str, parked: Sequence[ParkedEvent]) -> None:
        for event in parked:
            connection.execute(
                "insert into parked values (%s, %s, %s, %s, %s, %s, %s, %s)",
                (pod, event.aggregate_key, event.event_id, event.cut, event.position,
                 json.dumps(dict(event.event), default=str), event.error, event.parked_at),
            )  # fmt: skip

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return what is parked, in order."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(
                'select aggregate_key, event_id, cut, "position", event, error, parked_at from parked where pod = %s'
                ' order by cut, "position"',
                (pod,),
            ).fetchall()
        return [
            ParkedEvent(
                aggregate_key=row[0], event_id=row[1], cut=row[2], position=row[3], event=_revived(row[4]),
                error=row[5], parked_at=row[6],
            )
            for row in rows
            if keys is None or row[0] in keys
        ]  # fmt: skip

    def applied(self, pod: str = "pod1") -> list[tuple[Any, ...]]:
        """Return (cut, position, aggregate_id, aggregate_version, event_id) in the order of application."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(
                'select cut, "position", aggregate_id, aggregate_version, event_id from applied where pod = %s'
                " order by number",
                (pod,),
            ).fetchall()


def _revived(event: dict[str, Any]) -> dict[str, Any]:
    moments = {name: datetime.fromisoformat(event[name]) for name in ("occurred_at", "recorded_at")}
    return {**event, **moments}


class Crash(BaseException):
    """A process that dies: nothing between here and the test catches it."""


def crash_at(step: str, *, after: int = 0) -> Callable[[str], None]:
    """Return a step hook that crashes at the named step, once `after` such steps have passed."""
    left = [after]

    def hook(name: str) -> None:
        if name == step:
            if left[0] == 0:
                raise Crash(step)
            left[0] -= 1

    return hook


def ids_of(rows: Collection[tuple[Any, ...]]) -> list[str]:
    """Return the event ids of recorded rows."""
    return [row[4] for row in rows]
