"""An example projection: it records every shipped fulfillment exactly once in an SQLite file.

Belongs here: the minimum that a projection needs. Run it with `streams.consumer.run_consumer(Notifications(path),
"pod1", settings, stop)`; the how-to is docs/how-to/add-a-projection.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow.compute as pc

from streams.projection import START, FencedError, PoisonEventError, Position, ProjectionState, Work
from streams.refusals import refused

TABLES = """
    create table if not exists positions (pod, partition, epoch, cut, chunk, primary key (pod, partition));
    create table if not exists notifications (event_id primary key, merchant_id, fulfillment_id)"""


class Notifications:
    """One row per shipped fulfillment; the program that sends the mails deletes the rows that it has sent."""

    name = "notifications"

    def __init__(self, path: Path) -> None:
        self._path = path

    def state(self, pod: str) -> ProjectionState:
        """Return the projection's state for `pod`: its positions."""
        with self._transaction() as file:
            return self._state(file, pod)

    def apply(self, work: Work) -> None:
        """Insert the step's shipments and update the positions in one transaction."""
        with self._transaction() as file:
            positions = self._state(file, work.pod).positions
            if any(positions.get(partition, START) != expected for partition, expected in work.expected.items()):
                raise FencedError("Another consumer of the notifications was faster.")
            for entry in work.entries:
                shipped = entry.events.filter(pc.equal(entry.events.column("event_type"), "fulfillment_shipped"))
                rows = shipped.select(["event_id", "merchant_id", "aggregate_id"]).to_pylist()
                if bad := refused(rows, lambda some: _refusal(file, some)):
                    raise PoisonEventError.of_all([PoisonEventError(row["event_id"], why) for row, why in bad])
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
            # Take the write lock at the start, so that a second consumer compares with the positions that the first has
            # committed.
            file.execute("begin immediate")
            with file:
                yield file


def _refusal(file: sqlite3.Connection, rows: Sequence[Mapping[str, str]]) -> str | None:
    """Insert shipments; return None or, when nothing was inserted, the reason."""
    file.execute("savepoint notes")
    try:
        file.executemany("insert into notifications values (:event_id, :merchant_id, :aggregate_id)", rows)
    except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeError) as error:  # bad row data
        file.execute("rollback to notes")
        return f"{error}."
    return None
