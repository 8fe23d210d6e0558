"""Reads whole transactions from a database's write-ahead log, and collects what is seen in each; pure.

Belongs here: the order of messages, which rows of which aggregate a transaction touched, and how a sighting says so.
Does not belong here: what a transaction must carry (`witness/oltp.py`, `witness/read_models.py`), the slot
(`witness/slot.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from contracts.sightings import Sighting, SightingKind
from witness.slot import HEARTBEAT
from witness.write_ahead import Begin, Change, Commit, Decoder, Note, Row, Truncate

KEYS_PER_TRANSACTION = 1_000
"""A transaction with more unannounced aggregates than this gives one sighting more, which asks to compare all."""
DONE = {"I": "inserted", "U": "changed", "D": "deleted"}

Whose = TypeVar("Whose")
"""What names whose row it is: an aggregate, in the terms of the store."""


@dataclass(kw_only=True)
class Touched:
    """What one transaction did in one table to one aggregate: the first row, and how many."""

    change: Change | None
    """None: the table was emptied."""
    rows: int = 0


@dataclass(kw_only=True)
class Reading(ABC, Generic[Whose]):
    """Judges transactions one after the other."""

    witness: str
    schema: str
    sightings: list[Sighting] = field(default_factory=list)
    heartbeats: set[bytes] = field(default_factory=set)
    """What heartbeats said."""
    message_count: int = 0
    end_lsn: int = 0
    """Where the last whole transaction ends."""
    _decoder: Decoder = field(default_factory=Decoder)
    _begin: Begin | None = None
    _touched: dict[tuple[str, Whose | None], Touched] = field(default_factory=dict)

    def read(self, messages: Iterable[bytes]) -> None:
        """Take messages of whole transactions, and collect what is seen in them."""
        for data in messages:
            self.message_count += 1
            match self._decoder.decoded(data):
                case Begin() as begin:
                    self._begin, self._touched = begin, {}
                    self.start()
                case Change() as change if change.schema == self.schema:
                    self.take(change)
                case Truncate(tables=tables):
                    for schema, table in tables:
                        if schema == self.schema and self.is_watched(table):
                            self.touch(table, None, None)
                case Note(prefix=prefix, content=content) if prefix == HEARTBEAT:
                    self.heartbeats.add(content)
                case Note() as note:
                    self.take_note(note)
                case Commit() as commit:
                    self._finish()
                    self.end_lsn = commit.end_lsn

    @abstractmethod
    def start(self) -> None:
        """Forget what the transaction before carried."""

    @abstractmethod
    def take(self, change: Change) -> None:
        """Take a changed row of the schema: touch it, or note that it allows others."""

    def take_note(self, note: Note) -> None:
        """Take a message that the transaction carries."""

    @abstractmethod
    def is_watched(self, table: str) -> bool:
        """Return whether nobody but a writer of ours may empty a table."""

    @abstractmethod
    def is_allowed(self, table: str, whose: Whose | None, touched: Touched) -> bool:
        """Return whether what the transaction carries allows what it did."""

    @abstractmethod
    def found(self, table: str, whose: Whose | None, touched: Touched) -> Iterable[Sighting]:
        """Yield what is seen of a row that nothing allows."""

    @abstractmethod
    def found_more(self, rest: Sequence[tuple[str, Whose | None]]) -> Iterable[Sighting]:
        """Yield what asks to compare everything, when a transaction touched too much to name the rest."""

    def touch(self, table: str, whose: Whose | None, change: Change | None) -> None:
        """Note that the transaction did something to a row of a table."""
        self._touched.setdefault((table, whose), Touched(change=change)).rows += 1

    def _finish(self) -> None:
        found = [(key, touched) for key, touched in self._touched.items() if not self.is_allowed(*key, touched)]
        for (table, whose), touched in found[:KEYS_PER_TRANSACTION]:
            self.sightings += self.found(table, whose, touched)
        if rest := [key for key, _ in found[KEYS_PER_TRANSACTION:]]:
            self.sightings += self.found_more(rest)

    def seen(self, kind: SightingKind = SightingKind.UNANNOUNCED, **values: Any) -> Sighting:
        """Return a sighting of the present transaction."""
        begin = self._begin
        assert begin is not None
        return Sighting(
            witness=self.witness,
            kind=kind,
            transaction=f"{begin.xid} at {begin.commit_lsn:X}",
            written_at=begin.committed_at,
            **values,
        )


def what_was_done(place: str, whose: str, touched: Touched, said: str) -> str:
    """Return the sentence for people; `said` is what is wrong with it."""
    if touched.change is None:
        return f"{place} was emptied by TRUNCATE."
    more = f" (and {touched.rows - 1:,} more of it)" if touched.rows > 1 else ""
    return f"A row of {place}{whose} was {DONE[touched.change.operation.value]}{more}: {said}."


def shown(row: Row | None, unshown: frozenset[str] = frozenset()) -> dict[str, str | None] | None:
    """Return a row as a sighting repeats it."""
    return None if row is None else {name: value for name, value in row.items() if name not in unshown}
