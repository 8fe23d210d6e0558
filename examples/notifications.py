"""A projection of your own: notes every shipped fulfillment, once, in an SQLite file.

Belongs here: the least that a projection needs. Run it with `streams.consumer.run_consumer(Notifications(path), "pod1",
settings, stop)`; the how-to is docs/how-to/add-a-projection.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow.compute as pc

from streams.projection import START, FencedError, Position, ProjectionState, Work

TABLES = """
    create table if not exists positions (pod, partition, epoch, cut, chunk, primary key (pod, partition));
    create table if not exists notifications (event_id primary key, merchant_id, fulfillment_id)"""


class Notifications:
    """One row per fulfillment that was shipped; whoever sends the mails deletes the rows it has sent."""

    name = "notifications"

    def __init__(self, path: Path) -> None:
        self._path = path

    def state(self, pod: str) -> ProjectionState:
        """Return how far `pod` has been applied."""
        with self._transaction() as file:
            return self._state(file, pod)

    def apply(self, work: Work) -> None:
        """Note the step's shipments and move the positions, in one commit."""
        with self._transaction() as file:
            positions = self._state(file, work.pod).positions
            if any(positions.get(partition, START) != expected for partition, expected in work.expected.items()):
                raise FencedError("Another consumer of the notifications was faster.")
            for entry in work.entries:
                shipped = entry.events.filter(pc.equal(entry.events.column("event_type"), "fulfillment_shipped"))
                rows = shipped.select(["event_id", "merchant_id", "aggregate_id"]).to_pylist()
                file.executemany("insert into notifications values (:event_id, :merchant_id, :aggregate_id)", rows)
            moved = [(work.pod, number, work.epoch, at.cut, at.chunk) for number, at in work.positions.items()]
            file.executemany("insert or replace into positions values (?, ?, ?, ?, ?)", moved)

    def _state(self, file: sqlite3.Connection, pod: str) -> ProjectionState:
        rows = file.execute("select partition, epoch, cut, chunk from positions where pod = ?", [pod]).fetchall()
        return ProjectionState(
            epoch=rows[0][1] if rows else None,
            positions={partition: Position(cut=cut, chunk=chunk) for partition, _, cut, chunk in rows},
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as file:
            file.executescript(TABLES)
            # Takes the write lock at once: of two consumers, the second one compares what the first has committed.
            file.execute("begin immediate")
            with file:
                yield file
