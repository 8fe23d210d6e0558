"""Writers that do everything awkward a transaction can do, publishers under test, and what must hold at the end.

Belongs here: the torture of the cut rule. Does not belong here: which rule is tortured and what is expected of it
(`tests/scenario/test_cuts_torture.py`).
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg

from streams import codec
from streams.cuts import CutShape, take_reconciler_cut
from streams.log import EntryId, EventLog
from streams.relay import Pace, Relay
from tests.streams_support import Crash, insert_event

WRITERS = 12
AGGREGATES = 5
TRANSACTIONS = 25
"""Per writer."""
SHAPE = CutShape(partition_count=3, chunk_rows=4)
MOVED = {"a0": 20, "a1": 30}
"""Aggregates whose merchant has come back from another pod, and their first version after that."""

State = dict[str, tuple[int, int]]
"""Version and balance by aggregate."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One event as a publisher handed it on; `cut` is 0 where the rule knows no cuts."""

    cut: int
    event_id: str
    aggregate_id: str
    version: int
    balance: int
    directory_epoch: int


class Publisher(Protocol):
    """A way from the outbox to those who follow."""

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set."""

    def finish(self) -> list[Published]:
        """Publish the rest, and return everything in the order in which a consumer gets it."""


@dataclass
class Outcome:
    """What went wrong, by kind; a sample of each."""

    events: int
    reconciled_cuts: int
    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    unequal_folds: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    """Events of another residence of their merchant than they were written in."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.repeated or self.reordered or self.unequal_folds or self.misplaced)


def torture(dsn: str, foreign_dsn: str, seed: int, publisher: Publisher, *, is_reconciling: bool) -> Outcome:
    """Run writers, foreign transactions, reconciler and publisher at once; return what a consumer would have seen."""
    _create_accounts(dsn)
    stop = threading.Event()
    states: dict[int, State] = {}
    beside = [
        lambda: publisher.run(stop),
        lambda: _hold_transactions_open(dsn, foreign_dsn, random.Random(f"{seed} foreign"), stop),
    ]
    if is_reconciling:
        beside.append(lambda: _reconcile(dsn, states, stop))
    writers = [lambda number=number: _write(dsn, random.Random(f"{seed} {number}")) for number in range(WRITERS)]
    with _threads(beside, stop), _threads(writers, threading.Event()):
        pass
    return _judge(dsn, publisher.finish(), states)


@contextmanager
def _threads(bodies: Sequence[Callable[[], object]], stop: threading.Event) -> Iterator[None]:
    """Run every body in a thread; on leaving set `stop`, join them and raise the first error."""
    errors: list[BaseException] = []

    def guarded(body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


# Writers


def directory_epoch(aggregate_id: str, version: int) -> int:
    """Return of which residence of its merchant a version is."""
    return 3 if version >= MOVED.get(aggregate_id, version + 1) else 1


def _create_accounts(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("create table accounts (id text primary key, version bigint, balance bigint)")
        for number in range(AGGREGATES):
            connection.execute("insert into accounts values (%s, 0, 0)", (f"a{number}",))


def _write(dsn: str, rng: random.Random) -> None:
    with psycopg.connect(dsn) as connection:
        # Half of the writers do not wait for their commits to be on disk; a cut's registration waits for them.
        connection.execute(f"set synchronous_commit = {rng.choice(['on', 'off'])}")
        connection.commit()
        for _ in range(TRANSACTIONS):
            try:
                _transact(connection, rng)
            except psycopg.errors.DeadlockDetected:
                connection.rollback()


def _transact(connection: psycopg.Connection[Any], rng: random.Random) -> None:
    if rng.random() < 0.4:  # an early id: it is older than those of transactions that will be first at the row
        connection.execute("select pg_current_xact_id()")
        _pause(connection, rng, 0.02)
    for aggregate_id in sorted(rng.sample([f"a{number}" for number in range(AGGREGATES)], rng.choice([1, 1, 2, 3]))):
        _change(connection, rng, aggregate_id)
        _pause(connection, rng, 0.004)
    if rng.random() < 0.3:  # a slow commit
        _pause(connection, rng, 0.03)
    if rng.random() < 0.12:
        connection.rollback()
    else:
        connection.commit()


def _change(connection: psycopg.Connection[Any], rng: random.Random, aggregate_id: str) -> None:
    fate = rng.random()
    if fate < 0.15:
        with _undone(connection):
            _set(connection, rng, aggregate_id)
    elif fate < 0.35:
        with connection.transaction():
            _set(connection, rng, aggregate_id)
    if fate >= 0.15:
        _set(connection, rng, aggregate_id)


@contextmanager
def _undone(connection: psycopg.Connection[Any]) -> Iterator[None]:
    connection.execute("savepoint undone")
    yield
    connection.execute("rollback to savepoint undone")


def _set(connection: psycopg.Connection[Any], rng: random.Random, aggregate_id: str) -> None:
    """Lock the aggregate, change it, then insert its event: the one rule that writers keep."""
    row = connection.execute(
        "update accounts set version = version + 1, balance = balance + %s where id = %s returning version, balance",
        (rng.randrange(-100, 100), aggregate_id),
    ).fetchone()
    assert row is not None
    residence = directory_epoch(aggregate_id, row[0])
    insert_event(connection, aggregate_id, row[0], text=str(row[1]), directory_epoch=residence)


def _pause(connection: psycopg.Connection[Any], rng: random.Random, seconds_max: float) -> None:
    connection.execute("select pg_sleep(%s)", (rng.random() * seconds_max,))


def _hold_transactions_open(dsn: str, foreign_dsn: str, rng: random.Random, stop: threading.Event) -> None:
    """Keep a transaction with an id open here and in another database of the cluster, replaced now and then."""
    while not stop.is_set():
        with ExitStack() as stack:
            for where in (dsn, foreign_dsn):
                connection = stack.enter_context(psycopg.connect(where))
                connection.execute("select pg_current_xact_id()")
            stop.wait(rng.random())


def _reconcile(dsn: str, states: dict[int, State], stop: threading.Event) -> None:
    """Take cuts beside the relay, and remember what the tables held at each."""
    while not stop.is_set():
        with take_reconciler_cut(dsn, SHAPE, registered_by="reconciler") as taken:
            rows = taken.connection.execute("select id, version, balance from accounts").fetchall()
            states[taken.cut] = {row[0]: (row[1], row[2]) for row in rows}
        stop.wait(0.01)


# Publishers


class ByCuts:
    """The real relay onto the real log; it also dies at random steps and starts again."""

    def __init__(self, dsn: str, log: EventLog, seed: int) -> None:
        self._log = log
        self._rng = random.Random(f"{seed} relay")
        self._dsn = dsn

    def _relay(self, step: Callable[[str], None] = lambda name: None) -> Relay:
        pace = Pace(busy_seconds=0.001, idle_seconds=0.004)
        return Relay(pod="pod1", dsn=self._dsn, log=self._log, shape=SHAPE, pace=pace, step=step)

    def run(self, stop: threading.Event) -> None:
        """Publish until stopped, dying now and then."""

        def step(name: str) -> None:
            if self._rng.random() < 0.01:
                raise Crash(name)

        while not stop.is_set():
            try:
                self._relay(step).run(stop)
            except Crash:
                continue

    def finish(self) -> list[Published]:
        """Drain, and read the log as its manifests say."""
        self._relay().drain()
        found: list[Published] = []
        after = 0
        while manifests := self._log.manifests("pod1", after, limit=1_000):
            for manifest in manifests:
                assert manifest.cut == after + 1, f"no manifest of cut {after + 1}"
                after = manifest.cut
                rows: list[dict[str, Any]] = []
                for partition, chunks in enumerate(manifest.partitions):
                    places = [
                        EntryId(generation=1, partition=partition, cut=after, chunk=chunk)
                        for chunk in range(len(chunks))
                    ]
                    rows += [row for data in self._log.fetch("pod1", places) for row in codec.decode(data).to_pylist()]
                found += [_published(after, row) for row in sorted(rows, key=lambda row: row["position"])]
        return found


BY_POSITION = """
select position, event_id::text, aggregate_id, aggregate_version, payload::text, directory_epoch
from oltp.outbox
where position > %(last)s order by position
"""

BY_XMIN = """
select position, event_id::text, aggregate_id, aggregate_version, payload::text, directory_epoch
from oltp.outbox
where xid >= %(last)s::xid8 and xid < %(xmin)s::xid8 order by position
"""


class ByPosition:
    """The rule `position > last`, which loses what commits late."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._last = 0
        self._found: list[Published] = []

    def run(self, stop: threading.Event) -> None:
        """Poll until stopped."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not stop.is_set():
                self._poll(connection)
                time.sleep(0.002)

    def finish(self) -> list[Published]:
        """Poll once more."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            self._poll(connection)
        return self._found

    def _poll(self, connection: psycopg.Connection[Any]) -> None:
        for row in connection.execute(BY_POSITION, {"last": self._last}).fetchall():
            self._last = row[0]
            self._found.append(_polled(row))


class ByXmin(ByPosition):
    """The rule `xid < pg_snapshot_xmin`, ordered by position, which reorders within an aggregate."""

    def _poll(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute("select pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
        assert row is not None
        rows = connection.execute(BY_XMIN, {"last": str(self._last), "xmin": row[0]}).fetchall()
        self._last = int(row[0])
        self._found += [_polled(found) for found in rows]


def _polled(row: tuple[Any, ...]) -> Published:
    names = ("position", "event_id", "aggregate_id", "aggregate_version", "payload", "directory_epoch")
    return _published(0, dict(zip(names, row, strict=True)))


def _published(cut: int, row: dict[str, Any]) -> Published:
    return Published(
        cut=cut,
        event_id=row["event_id"],
        aggregate_id=row["aggregate_id"],
        version=row["aggregate_version"],
        balance=int(json.loads(row["payload"])["state"]["text"]),
        directory_epoch=row["directory_epoch"],
    )


# Judgment


def _judge(dsn: str, published: list[Published], states: dict[int, State]) -> Outcome:
    with psycopg.connect(dsn) as connection:
        committed = {row[0] for row in connection.execute("select event_id::text from oltp.outbox").fetchall()}
    ids = [event.event_id for event in published]
    outcome = Outcome(events=len(committed), reconciled_cuts=len(states))
    outcome.lost = sorted(committed - set(ids))
    outcome.repeated = sorted({event_id for event_id in ids if ids.count(event_id) > 1} | (set(ids) - committed))
    outcome.reordered = _reordered(published)
    outcome.unequal_folds = _unequal_folds(published, states)
    outcome.misplaced = [
        event.event_id
        for event in published
        if event.directory_epoch != directory_epoch(event.aggregate_id, event.version)
    ]
    return outcome


def _reordered(published: list[Published]) -> list[str]:
    last: dict[str, int] = defaultdict(int)
    found = []
    for event in published:
        if event.version < last[event.aggregate_id]:
            found.append(f"{event.aggregate_id}: {event.version} after {last[event.aggregate_id]}")
        last[event.aggregate_id] = max(event.version, last[event.aggregate_id])
    return found


def _unequal_folds(published: list[Published], states: dict[int, State]) -> list[str]:
    found = []
    for cut, state in sorted(states.items()):
        fold = {f"a{number}": (0, 0) for number in range(AGGREGATES)}
        for event in published:
            if event.cut <= cut:
                fold[event.aggregate_id] = (event.version, event.balance)
        if fold != state:
            found.append(f"cut {cut}: fold {fold}, tables {state}")
    return found
