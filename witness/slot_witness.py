"""A witness of a database by a replication slot: one look, from the slot's health to the stored position.

Belongs here: what every such witness does at a look, and when the slot does not continue what was seen. Does not belong
here: the slot itself (`witness/slot.py`), what a transaction must carry (`witness/oltp.py`, `witness/read_models.py`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from contracts.sightings import Sighting, SightingKind
from reconcile.connections import Connection, Connections
from reconcile.sightings import keep_sightings
from reconcile.witness_states import keep_position, kept_position
from witness.slot import CHANGES_AT_ONCE, Slot, SlotState, later
from witness.transactions import Reading
from witness.watching import Look
from witness.write_ahead import lsn_number, lsn_text

BEAT_SECONDS = 15.0


@dataclass(kw_only=True)
class SlotWitness(ABC):
    """Looks at the write-ahead log of one database. `dsn` is that of the witness's role; empty: there is none."""

    SCHEMA: ClassVar[str]
    EXPECTED: ClassVar[str]
    """The query that gives the tables which the publication must show."""

    name: str
    pod: str
    dsn: str
    control_dsn: str
    interval_seconds: float = 0.5
    beat_seconds: float = BEAT_SECONDS
    _beats: dict[bytes, float] = field(default_factory=dict)
    """What heartbeats say that were not seen yet, and when each was written, by the monotonic clock."""
    _beaten: float | None = None
    _flushed: str = ""
    """Where the log ended at the last look; while it ends there, nothing was written."""
    _connections: Connections = field(default_factory=Connections)

    @property
    @abstractmethod
    def place(self) -> str:
        """Return the database's name for people."""

    @property
    @abstractmethod
    def setting(self) -> str:
        """Return the setting that holds `dsn`."""

    @abstractmethod
    def reading(self, connection: Connection) -> Reading[Any]:
        """Return what judges the next transactions."""

    @abstractmethod
    def is_new(self, connection: Connection) -> bool:
        """Return whether nothing was ever written that could have been seen."""

    @abstractmethod
    def copies(self) -> Sequence[str | None]:
        """Return the copies that must be compared completely after a stretch that was not seen; None: OLTP."""

    def look_once(self) -> Look:
        """Read what was committed since the last look, store what is seen with the new position, move the slot on."""
        if not self.dsn:
            return Look(sightings=0, trouble=f"It has no role in {self.place}: set {self.setting}.")
        slot = Slot(connection=self._connections.to(self.dsn), schema=self.SCHEMA, expected=self.EXPECTED)
        state = slot.state()
        if trouble := _trouble(state):
            return Look(sightings=0, trouble=trouble)
        if state.is_readable and state.flushed == self._flushed and not self._is_beat_due():
            return Look(sightings=0)
        is_whole, mark = slot.publication()
        if not is_whole:
            return Look(
                sightings=0,
                trouble=f"The publication of {self.place} does not show every table: run `tieout migrate`.",
            )
        stored, _, known_mark = kept_position(self._connections.to(self.control_dsn), self.name, self.pod).partition(
            " "
        )
        if reason := _blind_reason(state, stored, known_mark, mark):
            return self._begin_anew(slot, mark, reason, is_first=not stored)
        if self._is_beat_due():
            self._beaten = time.monotonic()
            self._beats[slot.beat()] = self._beaten
            state = slot.state()
        return self._read(slot, state.flushed, mark)

    def _read(self, slot: Slot, upto: str, mark: str) -> Look:
        reading = self.reading(slot.connection)
        reading.read(slot.messages(upto))
        # A read that stopped at its limit ends with a whole transaction, before `upto`.
        is_cut_short = reading.message_count >= CHANGES_AT_ONCE
        position = lsn_text(reading.end_lsn) if is_cut_short else later(upto, reading.end_lsn)
        count = self._keep(reading.sightings, f"{position} {mark}")
        slot.advance(position)
        self._flushed = "" if is_cut_short else upto
        seen = [self._beats.pop(said) for said in reading.heartbeats if said in self._beats]
        return Look(sightings=count, proven_seconds_ago=time.monotonic() - max(seen) if seen else None)

    def _begin_anew(self, slot: Slot, mark: str, reason: str, *, is_first: bool) -> Look:
        """Make the slot anew; say what was not seen, unless the database is new and there was nothing to see."""
        is_new = is_first and self.is_new(slot.connection)
        position = slot.make_anew()
        blind = [
            Sighting(
                witness=self.name,
                kind=SightingKind.BLIND,
                pod=self.pod,
                copy=copy,
                place="write-ahead log" if copy is None else f"write-ahead log, {copy}",
                what=f"{reason} What was written before {position} was not seen.",
                transaction=f"before {position}",
            )
            for copy in self.copies()
        ]
        count = self._keep([] if is_new else blind, f"{position} {mark}")
        self._beats.clear()
        self._beaten, self._flushed = None, ""
        return Look(sightings=count)

    def _keep(self, sightings: Sequence[Sighting], position: str) -> int:
        control = self._connections.to(self.control_dsn)
        with control.transaction():
            count = keep_sightings(control, sightings)
            keep_position(control, self.name, self.pod, position)
        return count

    def _is_beat_due(self) -> bool:
        return self._beaten is None or time.monotonic() - self._beaten >= self.beat_seconds

    def close(self) -> None:
        """Close the connections; the slot stays, and keeps what is not read yet."""
        self._connections.close()


def _trouble(state: SlotState) -> str:
    """Return why this server can have no slot that is safe; empty when it can."""
    if state.level != "logical":
        return f"The server has wal_level = {state.level}: set it to logical and restart the server."
    if state.kept == "-1":
        return "The server has no max_slot_wal_keep_size: set it (e.g. 1GB), or a slot could fill its disk."
    return ""


def _blind_reason(state: SlotState, stored: str, known_mark: str, mark: str) -> str:
    """Return why the slot does not continue what was seen; empty when it does."""
    if not state.is_there:
        return "The slot is gone." if stored else "The slot was not there."
    if not state.is_readable:
        return "The slot was overtaken: the server has removed log that was not read yet."
    if not stored:
        return "The control database knows no position of the slot."
    if lsn_number(str(state.confirmed)) > lsn_number(stored):
        return f"Somebody else has moved the slot on, from {stored} to {state.confirmed}."
    if lsn_number(state.flushed) < lsn_number(stored):
        return f"The database was set back: its log ends at {state.flushed}, before {stored}."
    if known_mark != mark:
        return "The publication was changed."
    return ""
